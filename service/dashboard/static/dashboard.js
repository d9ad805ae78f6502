// Says when the page is no longer live, and loads it again if it has to be signed in again. Everything else is htmx.
"use strict";

const show = (offline) => {
  const note = document.getElementById("offline");
  if (note) note.hidden = !offline;
};
const check = async () => {
  const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
  if (answer.type === "opaqueredirect") location.reload(); // to the sign-in, which leads back
};
document.addEventListener("htmx:sseError", () => {
  show(true);
  check().catch(() => {}); // the service does not answer: htmx tries again
});
document.addEventListener("htmx:sseOpen", () => show(false));
document.addEventListener("htmx:sendError", () => show(true));
document.addEventListener("htmx:responseError", () => show(true));
