// The companion of a workspace's page: reports that its user is there, warns before a sleep, and wakes after it.
// The gateway adds it as the first script (docs/explanation/idleness.md). It changes nothing in the page itself.
(() => {
"use strict";
const root = window, page = document, Socket = WebSocket;
page.currentScript?.remove(); // the program shall find its document as it wrote it
if (root.top !== root || root.userPods) return;
Object.defineProperty(root, "userPods", { value: true });

const now = () => performance.now(), visible = () => page.visibilityState === "visible";
const on = (target, type, listener, options) => target.addEventListener(type, listener, options);
const never = -1e9;

// --- who measures: tells the gateway that this browser's requests need not show that its user is there ---

const COOKIE = "__Host-user-pods-companion=1; Path=/; Secure; SameSite=Strict; Max-Age=";
const mark = (seconds = 300) => { try { page.cookie = COOKIE + seconds; } catch {} };
mark();
setInterval(() => open && mark(), 60000);

// --- the connection ---

let socket, open = false, failures = 0, retry, tried = 0;

const connect = () => {
  clearTimeout(retry);
  if (socket) return;
  tried = now();
  const mine = socket = new Socket(`${location.origin.replace("http", "ws")}/.user-pods/companion`);
  mine.onopen = () => { open = true; failures = 0; mark(); report(); };
  mine.onmessage = (event) => { const message = JSON.parse(event.data); handlers[message.type]?.(message); };
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = undefined;
    open = false;
    if (++failures > 3) mark(0); // nobody hears of any input: what the page sends has to show it
    retry = setTimeout(connect, Math.min(30000, 500 * 2 ** failures) * (0.5 + Math.random()));
  };
};
const disconnect = () => {
  report();
  clearTimeout(retry);
  socket?.close();
  socket = undefined;
  open = false;
};
const again = () => { mark(); connect(); };
const send = (message) => socket.send(JSON.stringify(message));

// --- input: reported at once, then at most every two seconds; the last one always ---

let direct = never, last = never, reported = never, pause, x, y;

const input = () => {
  last = now();
  dismiss();
  if (!pause) report();
  if (!socket && last - tried > 2000) connect();
};
const report = () => {
  clearTimeout(pause);
  pause = 0;
  if (last <= reported || !open) return;
  if (now() - last < 60000) send({ type: "input", ago: Math.round(now() - last) });
  reported = last;
  pause = setTimeout(report, 2000);
};

const INPUT = new Set("keydown beforeinput pointerdown click wheel touchstart touchmove drop dragenter".split(" "));
const OTHER = `pointermove scroll keypress keyup paste cut copy pointerup mousedown mouseup mousemove dblclick auxclick
contextmenu touchend dragstart dragover compositionstart`.split(/\s+/);

const onEvent = (event) => {
  const { type, screenX, screenY } = event;
  if (!event.isTrusted) return;
  if (mode) return guard(event);
  if (type === "pointermove") { // a browser sends some although the pointer rests, when the page changes under it
    if (page.pointerLockElement ? !(event.movementX || event.movementY)
      : Math.abs(screenX - x) + Math.abs(screenY - y) < 3) return;
    [x, y] = [screenX, screenY];
  } else if (type === "scroll") { // programs scroll too
    if (now() - direct < 2000) input();
    return;
  } else if (!INPUT.has(type)) return;
  direct = now();
  if (event.key === "Tab") grace = direct + 5000;
  input();
};
const hook = (frame) => {
  try {
    const options = (type) => ({ capture: true, passive: /wheel|^touch/.test(type) });
    for (const type of [...INPUT, ...OTHER]) on(frame, type, onEvent, options(type));
    on(frame.document, "load", onLoad, true);
    for (const inner of frame.document.querySelectorAll("iframe, frame")) hook(inner.contentWindow);
  } catch {} // of another origin: entering it counts, see below
};
const onLoad = ({ target }) => { if (target.contentWindow) hook(target.contentWindow); };
hook(root);

on(root, "blur", (event) => {
  let active = page.activeElement;
  while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
  if (!event.isTrusted || !active?.contentWindow) return;
  hook(active.contentWindow);
  if (!mode) input();
});
on(page, "visibilitychange", () => {
  if (!visible()) return report();
  again();
  if (mode === "ready") load();
  else if (!mode) input();
});
on(root, "pagehide", disconnect);
on(page, "freeze", disconnect);
on(root, "pageshow", (event) => event.persisted && again());
on(page, "resume", again);
on(root, "online", again);

// --- what is shown: in a shadow root with a style sheet of its own, whatever styles and policy the page has ---

let texts = {}, warnsFor = 0, stays = 0, host, notice, dialog;
const parts = {};

const text = (key, values = {}) => (texts[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => values[name]);
const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
const make = (part, name, attributes = {}, ...children) => {
  const made = parts[part] = page.createElement(name);
  for (const each in attributes) made.setAttribute(each, attributes[each]);
  made.append(...children);
  return made;
};
const place = () => {
  if (!host) {
    host = make("host", "user-pods-companion");
    const shadow = host.attachShadow({ mode: "open" }), sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    shadow.adoptedStyleSheets = [sheet];
    notice = make("notice", "div", { role: "group", popover: "manual" },
      make("said", "p", { role: "status" }), make("left", "p", { "aria-hidden": true }), make("stay", "button"));
    dialog = make("dialog", "dialog",
      { "aria-modal": true, "aria-labelledby": "title", "aria-describedby": "hint", tabindex: -1 },
      make("box", "div", {}, make("title", "h1", { id: "title" }), make("hint", "p", { id: "hint", role: "status" }),
        make("bar", "hr", { "aria-hidden": true }), make("detail", "p")));
    on(parts.stay, "click", () => open && send({ type: "stay" }));
    on(dialog, "cancel", (event) => event.preventDefault());
    on(dialog, "close", () => mode && dialog.showModal());
    shadow.append(notice, dialog);
  }
  if (!host.isConnected) page.documentElement.append(host);
};
const STYLE = `
:host{all:initial!important;display:contents!important}
*{box-sizing:border-box}
[role=group],dialog{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif;color:light-dark(#1b1c22,#f1f1f4);
background:light-dark(#fff,#25262c)}
[role=group]{inset:auto 1rem 1rem auto;margin:0;max-width:min(24rem,calc(100vw - 2rem));padding:.75rem 1rem;
border:1px solid light-dark(#8a8c99,#85879a);border-radius:.5rem;box-shadow:0 .25rem 1rem #0004}
p,h1{margin:0 0 .5rem}
[role=group]>[role=status]{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
button{font:inherit;padding:.25rem .75rem;color:inherit;background:none;border:1px solid;border-radius:.25rem}
button:focus-visible{outline:3px solid light-dark(#0b57d0,#a8c7fa);outline-offset:2px}
dialog{inset:0;width:100vw;height:100vh;max-width:none;max-height:none;padding:1rem;border:0;outline:0;opacity:.97}
dialog[open]{display:grid;place-content:center;text-align:center}
div div,dialog>div{max-width:34rem}
h1{font-size:1.5rem;font-weight:600}
hr{height:2px;margin:1rem 0;border:0}
.busy hr{background:linear-gradient(90deg,transparent,currentcolor,transparent) 50%/40% 100% no-repeat}
@media (prefers-reduced-motion:no-preference){.busy hr{animation:go 1.4s linear infinite}
@keyframes go{from{background-position:-70% 0}to{background-position:170% 0}}}`;

// --- the notice before a sleep ---

let sleepsAt, ticker, grace = never, saved;

const shown = () => notice?.matches(":popover-open");
const tick = () => {
  const seconds = Math.ceil(sleepsAt - Date.now() / 1000);
  const words = seconds > 0 ? text("notice.text", { seconds }) : text("notice.now");
  parts.left.textContent = words;
  if (!parts.said.textContent || seconds === 10) parts.said.textContent = words;
  if (seconds > 5 || saved) return;
  saved = true; // a moment to save before the pod ends; some programs do so on a blur
  dispatchEvent(new CustomEvent("user-pods:sleep", { detail: { seconds: Math.max(0, seconds) } }));
  dispatchEvent(new Event("blur"));
};
const stop = () => { clearInterval(ticker); ticker = 0; };
const warn = (at) => {
  place();
  sleepsAt = at;
  if (!ticker) {
    grace = never;
    saved = false;
    parts.said.textContent = "";
    parts.stay.textContent = text("notice.stay", { minutes: stays });
    notice.setAttribute("aria-label", text("notice.title"));
    if (warnsFor > 0) notice.showPopover();
    ticker = setInterval(tick, 1000);
  }
  setTimeout(() => ticker && tick(), 100); // a live region has to be there before its text
};
const dismiss = () => { // whoever moves needs no warning; it stays a moment for those who reach for its button
  if (!ticker) return;
  stop();
  parts.left.textContent = text("notice.staying");
  grace = Math.max(grace, now() + 1500);
  fade();
};
const fade = () => {
  if (ticker || !shown()) return;
  if (now() < grace || notice.matches(":hover, :focus-within")) setTimeout(fade, 250);
  else notice.hidePopover();
};
const withdraw = () => {
  stop();
  if (shown() && now() >= grace) notice.hidePopover();
};

// --- asleep: nothing reaches a page whose pod is gone, until the pod is back and the page is loaded again ---

let mode = "", pod, asked = never, loading = never;
const KEY = /^(.|Enter|Escape|Tab|Backspace|Delete|Insert|Home|End|Page(Up|Down)|Arrow\w+)$/u;

const guard = (event) => {
  const { type, cancelable } = event;
  event.stopImmediatePropagation();
  const key = type === "keydown" && KEY.test(event.key) && !(event.ctrlKey || event.metaKey || event.altKey);
  if (key || cancelable && !type.startsWith("key")) event.preventDefault(); // but the browser's own keys work
  if (key && !event.repeat || type === "click") wake();
};
const show = (to, title, hint, detail = "") => {
  place();
  stop();
  if (shown()) notice.hidePopover();
  mode = to;
  if (to !== "waking") asked = never;
  parts.title.textContent = title;
  parts.hint.textContent = hint;
  parts.detail.textContent = detail;
  dialog.className = to === "waking" ? "busy" : "";
  if (!dialog.open) dialog.showModal();
};
const waking = (title) => show("waking", text(title), text("waking.hint"));
const wake = () => {
  if (mode === "gone") return;
  if (mode === "ready" || !open) return load(true); // opening the page wakes as well
  if (now() - asked < 2000) return;
  send({ type: "wake" });
  if (mode !== "waking") waking("waking.title");
  asked = now();
};
const load = (isAsked) => { // never over and over by itself, and not in the background
  if (now() - loading < 3000) return;
  const ready = () => show("ready", text("ready.title"), text("ready.hint"));
  let recent = [0, 0, 0];
  try {
    recent = JSON.parse(sessionStorage.userPodsLoads ?? "[]").filter((at) => Date.now() - at < 60000);
    if (isAsked || recent.length < 3) sessionStorage.userPodsLoads = JSON.stringify([...recent, Date.now()].slice(-3));
  } catch {}
  if (!isAsked && (recent.length > 2 || !visible())) return ready();
  loading = now();
  setTimeout(ready, 3000); // the page may ask whether to leave, and its user may stay
  location.reload();
};

// --- what the gateway says ---

const handlers = {
  hello: (message) => { texts = message.texts; warnsFor = message.notice; stays = message.stay; },
  state: ({ phase, pod: current, sleeps_at: sleeps, asleep_since: since, interrupted, now: at }) => {
    const skew = Date.now() / 1000 - at, gone = pod && current !== pod;
    pod ??= current;
    if (phase === "released" || phase === "deleting") show("gone", text("gone.title"), text("asleep.cannot"));
    else if (phase === "asleep") {
      pod ??= "none"; // a page that was opened meanwhile has to be loaded again, too
      const title = since ? text("asleep.title", { time: clock(since + skew) }) : text("asleep.title.unknown");
      show("asleep", title, text("asleep.hint"), text(interrupted ? "asleep.interrupted" : "asleep.note"));
    } else if (gone && phase === "ready") load();
    else if (gone || mode === "asleep" && !current) {
      if (mode !== "waking" && mode !== phase) waking(mode ? "waking.title" : "replaced.title");
    } else {
      if (mode) { mode = ""; dialog.close(); }
      if (sleeps && sleeps - at <= Math.max(warnsFor, 5) + 1) warn(sleeps + skew);
      else withdraw();
    }
  },
  progress: ({ stage, detail }) => {
    if (mode !== "waking") return;
    if (stage === "delayed") parts.detail.textContent = detail;
    else parts.title.textContent = text(`stage.${stage}`) || parts.title.textContent;
  },
  ready: () => { if (mode && mode !== "gone") load(); },
  failed: ({ title, detail }) => { if (mode) show("failed", title, text("failed.hint"), detail); },
  stayed: ({ until }) => {
    if (!shown()) return;
    parts.left.textContent = parts.said.textContent = text("notice.stayed", { time: clock(until) });
    grace = now() + 3000;
    fade();
  },
};

connect();
})();
