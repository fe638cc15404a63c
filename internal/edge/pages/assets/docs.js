// Shows the contract. Nothing here leaves this host: no validator, no address taken from the query, no credential kept.
"use strict";

(function () {
  // Swagger UI has dark colours but leaves it to the page to say when.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", paint);
  paint();

  // In OpenAPI 3.1, Swagger UI 5.35 shows a parameter that a whole path takes by reference, such as the id of a user, as one without name or
  // type, so nothing that needs it could be tried. Given to each operation of the path instead, which means the same, it shows.
  function giveParametersToOperations(contract) {
    const methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    for (const path of Object.values(contract.paths)) {
      if (!path.parameters) {
        continue;
      }
      for (const method of methods.filter((name) => path[name])) {
        path[method].parameters = path.parameters.concat(path[method].parameters || []);
      }
      delete path.parameters;
    }
    return contract;
  }

  function show(contract) {
    window.SwaggerUIBundle({
      spec: giveParametersToOperations(contract),
      dom_id: "#contract",
      deepLinking: true,
      displayRequestDuration: true,
      docExpansion: "list",
      filter: true,
      persistAuthorization: false,
      queryConfigEnabled: false,
      showExtensions: true, // x-roles and x-scope say who may call
      tryItOutEnabled: true,
      validatorUrl: null
    });
  }

  function apologise() {
    document.getElementById("sorry").hidden = false;
  }

  fetch("/openapi.json?version=3.1")
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error("The contract was not answered."))))
    .then(show)
    .catch(apologise);
})();
