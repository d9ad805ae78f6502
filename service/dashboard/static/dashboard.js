// Says when the page is no longer live. Everything else is htmx.
"use strict";

const show = (offline) => {
  const note = document.getElementById("offline");
  if (note) note.hidden = !offline;
};
document.addEventListener("htmx:sseError", () => show(true));
document.addEventListener("htmx:sseOpen", () => show(false));
document.addEventListener("htmx:sendError", () => show(true));
document.addEventListener("htmx:responseError", () => show(true));
