// What a page of another origin may try. The test calls these; a real page would do so when it loads.
"use strict";

// Sends a form that nobody filled in, the page going where it leads.
function forge(action, enctype, fields) {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action, enctype });
  for (const [name, value] of Object.entries(fields || {})) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
  document.body.append(form);
  form.submit();
}

// Asks with the visitor's credentials and tells what this page gets to see of the answer.
async function ask(address, options) {
  try {
    const answer = await fetch(address, { credentials: "include", ...options });
    const text = await answer.text();
    return `${answer.type} ${answer.status} ${text.length} characters`;
  } catch (failure) {
    return failure.name;
  }
}
