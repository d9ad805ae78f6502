"use strict";
// With the reader's region, where it is known: en-GB writes times as 22:00, en-US as 10:00 PM.
const shown = document.documentElement.lang;
const language = navigator.languages.find((each) => each.split("-")[0] === shown) || shown;
const clock = (at) => at.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
const isToday = (at) => at.toDateString() === new Date().toDateString();
const full = (at) => at.toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });

function localTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    time.textContent = time.dataset.style === "clock" && isToday(at) ? clock(at) : full(at);
  }
}

let received = Date.now();
function left() {
  const timer = document.getElementById("left");
  if (!timer) return;
  // By the service's clock: the browser's may be wrong.
  const { at, now, text } = timer.dataset;
  const seconds = Math.max(0, Math.round((Date.parse(at) - Date.parse(now) - (Date.now() - received)) / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0"));
  timer.textContent = text.replace("{time}", parts.join(":").replace(/^00:/, ""));
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.pathname, { headers: { Accept: "text/html" } });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    received = Date.now();
    localTimes(page);
    const now = document.getElementById("live"), next = page.getElementById("live");
    const before = now.querySelector(".state").textContent, after = next.querySelector(".state").textContent;
    if (before !== after) return show(page.querySelector("main"));
    if (!now.contains(document.activeElement)) now.replaceWith(next);
    left();
  } catch { /* the next one may succeed */ }
}

// Everything, as the buttons depend on the state. Whoever is at one of them stays there, if it is still there.
function show(main) {
  const name = (element) => element.textContent.trim(), focused = name(document.activeElement);
  document.querySelector("main").replaceWith(main);
  offerTonight();
  left();
  [...main.querySelectorAll("a, button, summary")].find((each) => name(each) === focused)?.focus();
}

function offerTonight() {
  const form = document.getElementById("tonight");
  if (!form) return;
  const ends = () => {
    const tonight = new Date();
    tonight.setHours(22, 0, 0, 0);
    return new Date(Math.min(tonight, Date.now() + form.dataset.limit * 1000));
  };
  const button = form.querySelector("button");
  if (ends() - Date.now() < 3600_000) return;
  button.textContent = button.dataset.text.replace("{time}", clock(ends()));
  button.hidden = false;
  form.addEventListener("submit", () => { form.elements.seconds.value = Math.round((ends() - Date.now()) / 1000); });
}

localTimes(document);
left();
offerTonight();
setInterval(left, 1000);
setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
