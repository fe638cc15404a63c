// A customer's frontend as small as one can be: it keeps no credential, for the browser has the cookie and no script sees it.
"use strict";

const api = document.querySelector("meta[name=api]").content;
const at = (id) => document.getElementById(id);

async function call(method, path, body) {
  const answer = await fetch(api + path, {
    method,
    credentials: "include",
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body)
  });
  const content = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) {
    // The detail is the service's own words for people; the request's id is for whoever helps.
    throw Object.assign(new Error(content.detail), { status: answer.status, requestID: answer.headers.get("X-Request-Id") });
  }
  return content;
}

function show(me) {
  at("sign-in").hidden = Boolean(me);
  at("me").hidden = !me;
  at("name").textContent = me ? `${me.first_name} ${me.last_name}` : "";
  at("email").textContent = me ? me.email : "";
  at("customer").textContent = me ? me.customer.name : "";
  showAlerts(me && me.alerts);
}

function showAlerts(alerts) {
  at("alerts").textContent = !alerts ? "" : alerts.opted_in ? "You get alerts." : "You get no alerts.";
}

// Does what a person asked for and says how it went.
function on(element, event, done, act) {
  element.addEventListener(event, async (e) => {
    e.preventDefault();
    at("status").textContent = "…";
    try {
      await act(element);
      at("status").textContent = done;
    } catch (problem) {
      at("status").textContent = `${problem.status || "Failed"}: ${problem.message} (${problem.requestID || "no answer"})`;
    }
  });
}

const fields = (form) => Object.fromEntries(new FormData(form));

on(at("sign-in"), "submit", "You are signed in.", async (form) => {
  const filled = fields(form);
  form.elements.password.value = ""; // whoever mistyped begins anew
  await call("POST", "/v1/sessions", { ...filled, transport: "cookie" });
  form.reset();
  show(await call("GET", "/v1/me"));
});

on(at("password"), "submit", "Your password is changed.", async (form) => {
  await call("PUT", "/v1/me/password", fields(form));
  form.reset();
});

on(at("opt-out"), "click", "Your choice is kept.", async () => {
  showAlerts(await call("PUT", "/v1/me/alerts", { opted_in: false }));
});

on(at("sign-out"), "click", "You are signed out.", async () => {
  await call("DELETE", "/v1/sessions/current");
  show(null);
});

// Whoever is signed in already sees that.
call("GET", "/v1/me").then(
  (me) => { show(me); at("status").textContent = "Welcome back."; },
  () => { show(null); at("status").textContent = "Please sign in."; }
);
