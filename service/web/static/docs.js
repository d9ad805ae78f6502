"use strict";
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const applyScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", applyScheme);
applyScheme();

// A link to a problem: the operations above it appear late and push it down, until the reader does something.
const target = document.getElementById(location.hash.slice(1));
if (target) {
  const layout = new ResizeObserver(() => target.scrollIntoView());
  layout.observe(document.getElementById("operations"));
  for (const input of ["wheel", "touchstart", "pointerdown", "keydown"]) {
    window.addEventListener(input, () => layout.disconnect(), { once: true, passive: true });
  }
}

SwaggerUIBundle({
  dom_id: "#operations",
  url: "openapi.json",
  validatorUrl: null, // the default asks a validator on the internet
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
