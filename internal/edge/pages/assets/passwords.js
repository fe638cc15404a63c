// The two pages about passwords. Nothing that is entered goes anywhere but to this host, and nothing of it is kept.
"use strict";

(function () {
  const at = (id) => document.getElementById(id);

  function refuse(text, field) {
    at("refused").textContent = text;
    at("refused").hidden = false;
    for (const input of document.querySelectorAll("input[aria-invalid]")) {
      input.removeAttribute("aria-invalid");
    }
    if (field) {
      field.setAttribute("aria-invalid", "true");
      field.focus();
    }
  }

  // showInstead shows the outcome in place of the form, and takes the reader there.
  function showInstead(form, id) {
    form.hidden = true;
    form.reset();
    at(id).hidden = false;
    at(id).focus();
  }

  async function send(form, path, body, answered) {
    const button = form.querySelector("button");
    at("refused").hidden = true;
    button.disabled = true;
    form.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json, application/problem+json" },
        body: JSON.stringify(body),
        credentials: "omit",
        referrerPolicy: "no-referrer",
        cache: "no-store"
      });
      const problem = answer.ok ? null : await answer.json().catch(() => ({}));
      answered(answer.status, problem);
    } catch {
      refuse("The service is unavailable. Try again in a moment.");
    } finally {
      button.disabled = false;
      form.removeAttribute("aria-busy");
    }
  }

  // said is what a problem document says to people.
  function said(problem) {
    return problem.detail || "Something went wrong. Try again in a moment.";
  }

  function setPassword(form) {
    // The token stands in the fragment, which no browser sends. It is taken out of the address, so that it stays in no history.
    const token = new URLSearchParams(window.location.hash.slice(1)).get("token");
    history.replaceState(null, "", window.location.pathname + window.location.search);
    if (!token) {
      showInstead(form, "unusable");
      return;
    }
    const first = at("new-password");
    const again = at("again");
    at("show").addEventListener("change", (event) => {
      first.type = again.type = event.target.checked ? "text" : "password";
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (first.value !== again.value) {
        refuse("The passwords do not match.", again);
        return;
      }
      send(form, "/v1/password-resets/confirm", { token: token, new_password: first.value }, (status, problem) => {
        if (status === 204) {
          showInstead(form, "done");
        } else if (status === 410) {
          showInstead(form, "unusable");
        } else {
          refuse(said(problem), status === 422 || status === 400 ? first : null);
        }
      });
    });
    form.hidden = false;
    first.focus();
  }

  function forgotPassword(form) {
    const customer = at("customer");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const body = { customer: customer.value.trim().toLowerCase(), email: at("email").value.trim() };
      send(form, "/v1/password-resets", body, (status, problem) => {
        if (status === 202) {
          showInstead(form, "done");
        } else if (status === 400) {
          refuse("Check both fields: the company is a short name without spaces, the address looks like name@company.example.", customer);
        } else {
          refuse(said(problem));
        }
      });
    });
    form.hidden = false;
    customer.focus();
  }

  if (at("set-password")) {
    setPassword(at("set-password"));
  } else {
    forgotPassword(at("forgot-password"));
  }
})();
