// The companion of a workspace's page: reports that its user is there, warns before a sleep, and wakes after it.
// The gateway adds it as the first script (docs/explanation/idleness.md). It changes nothing in the page itself.
(() => {
"use strict";
const root = window, page = document, Socket = WebSocket, element = Document.prototype.createElement,
  source = page.currentScript?.src, base = origin.replace("http", "ws"); // a program may call something `origin`
page.currentScript?.remove(); // the program shall find its document as it wrote it
if (root.top !== root || root.userPods === page) return; // a browser may use a window for two documents
root.userPods = page;

const now = () => performance.now(), on = (target, ...listener) => target.addEventListener(...listener),
  create = (name) => element.call(page, name), // VS Code forbids its other windows to make elements
  never = -1e9;

// --- who measures: tells the gateway that this browser's requests need not show that its user is there ---

const COOKIE = "__Host-user-pods-companion=", name = Math.random().toString(36).slice(2);
const mark = () => { // all tabs of a browser share one name
  try {
    const known = page.cookie.split(COOKIE)[1]?.match(/^\w+/)?.[0] ?? name;
    page.cookie = `${COOKIE}${known};Path=/;Secure;SameSite=Strict;Max-Age=300`;
  } catch {}
};
mark();
setInterval(mark, 6e4);

// --- the connection ---

let socket, open, failures = 0, retry;

const connect = () => {
  clearTimeout(retry);
  if (socket) return;
  const mine = socket = new Socket(`${base}/.user-pods/companion`);
  mine.onopen = () => { open = true; failures = 0; mark(); report(); };
  mine.onmessage = ({ data }) => { const message = JSON.parse(data); handlers[message.type]?.(message); };
  mine.onclose = () => {
    if (socket !== mine) return;
    open = socket = null;
    reported = never; // what was sent just before may be lost: the next connection tells it again
    retry = setTimeout(connect, Math.min(8000, 500 * 2 ** ++failures) * (0.5 + Math.random()));
  };
};
const disconnect = () => {
  report();
  clearTimeout(retry);
  socket?.close();
  open = socket = null;
};
const again = () => { mark(); connect(); };
const send = (data) => socket.send(JSON.stringify(data));

// --- input: reported at once, then at most every two seconds; the last one always ---

let direct = never, last = never, reported = never, sent = never, pause, x, y;

const input = (at = now()) => {
  last = at;
  dismiss();
  if (now() - sent > 2000) report();
};
const report = () => {
  clearTimeout(pause);
  if (last <= reported || !open) return;
  sent = now();
  if (sent - last < 6e4) send({ type: "input", ago: sent - last | 0 });
  reported = last;
  pause = setTimeout(report, 2000);
};

const TYPES = `keydown beforeinput pointerdown click wheel touchstart touchmove drop dragenter
pointermove scroll keypress keyup paste cut copy pointerup mousedown mouseup mousemove dblclick auxclick contextmenu
touchend`.split(/\s+/); // the first nine are input

const onEvent = (event) => {
  const { type, screenX, screenY, currentTarget } = event;
  if (!event.isTrusted || currentTarget !== root && own(currentTarget)) return;
  if (mode) return guard(event);
  if (type === "pointermove") { // a browser sends some although the pointer rests, when the page changes under it
    if (page.pointerLockElement ? !(event.movementX || event.movementY)
      : Math.abs(screenX - x) + Math.abs(screenY - y) < 3) return;
    [x, y] = [screenX, screenY];
  } else if (type === "scroll") { // programs scroll too
    if (now() - direct < 2000) input();
    return;
  } else if (TYPES.indexOf(type) > 8) return;
  direct = now();
  if (event.key === "Tab") grace = direct + 5000;
  input();
};
// The windows that pages here have opened, and how their address begins. Documents without a server (`about:blank`,
// `blob:…`) get their companion from here, once they are there: what is shown until then may share its window with them.
const windows = new Map(), hooked = new WeakSet(), isLocal = (there) => /^[ab]/.test(there.URL);
const own = (frame) => frame.userPods === frame.document; // it has a companion of its own
const hook = (frame) => { // again and again: a listener is only added once
  try {
    const inside = frame.document, top = inside.documentElement;
    if (frame === root) restore();
    else if (own(frame)) return;
    for (const type of TYPES) {
      on(frame, type, onEvent, { capture: true, passive: /wheel|^touch/.test(type) });
    }
    if (!hooked.has(inside)) {
      hooked.add(inside);
      new MutationObserver(() => hook(frame)).observe(inside, { childList: true }); // `open()` drops all listeners
      frame.open = new Proxy(frame.open, { apply: (...call) => {
        const opened = Reflect.apply(...call), [url] = call[2];
        if (opened?.top !== root) windows.set(opened, `${url || "a"}`[0]);
        hook(opened);
        return opened;
      } });
    }
    for (const inner of inside.querySelectorAll("iframe, frame")) hook(inner.contentWindow);
    if (windows.get(frame) === inside.URL[0] && isLocal(inside) && !hooked.has(top)) {
      hooked.add(top);
      const script = create("script");
      script.src = source;
      top.append(script);
    }
  } catch {} // of another origin
};
const onVisible = () => {
  if (page.hidden) return report();
  again();
  if (mode === "ready") load();
  else if (!mode) input();
};
const restore = () => {
  for (const type in OWN) on(root, type, OWN[type], true);
  if (!host || host.isConnected) return;
  if (ticker) reveal();
  if (mode) cover();
};

let elsewhere, active = false, looked = Date.now();
const onFocus = ({ type }) => elsewhere = type === "blur";
const look = () => {
  const gap = Date.now() - looked;
  looked += gap;
  if (gap > 9e4) { // the computer slept: what was sent may have got nowhere
    reported = never;
    disconnect();
    again();
  }
  for (const each of [root, ...windows.keys()]) each?.closed === false ? hook(each) : windows.delete(each);
  // A key or click in a frame of another origin shows only in this: the page is "active" for the next five seconds.
  const before = active, at = now() - (before ? 5000 : 0);
  active = !!navigator.userActivation?.isActive;
  if (active !== before && elsewhere && at - last > 1500 && gap < 3000 && !mode) input(at);
};
setInterval(look, 1000);

let rest = [], playing;
const play = () => {
  playing ??= setInterval(() => {
    const pads = [...navigator.getGamepads()].flatMap((pad) =>
      pad ? [...pad.axes, ...pad.buttons.map((button) => button.value)] : []);
    if (pads.length === rest.length && pads.every((value, at) => Math.abs(value - rest[at]) < 0.25)) return;
    rest = pads; // a worn stick is never still
    if (!mode) input();
  }, 100);
};

// --- what is shown: in a shadow root with a style sheet of its own, whatever styles and policy the page has ---

let told = { texts: {} }, host, notice, dialog;
const parts = {}, say = (part, words) => { parts[part].textContent = words; };

const text = (key, values) => (told.texts[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => values[name]);
const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { timeStyle: "short" });
const make = (part, name, attributes, ...children) => {
  const made = parts[part] = create(name);
  for (const each in attributes) made.setAttribute(each, attributes[each]);
  made.append(...children);
  return made;
};
const place = () => {
  if (!host) {
    host = create("user-pods-companion");
    const shadow = host.attachShadow({ mode: "open" });
    try {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(told.style);
      shadow.adoptedStyleSheets = [sheet];
    } catch {} // an old browser: it shows the same without a style
    notice = make("notice", "div", { role: "group", hidden: "" },
      make("said", "p", { role: "status" }), make("left", "p", { "aria-hidden": true }), make("stay", "button"));
    if (notice.showPopover) notice.popover = "manual";
    dialog = make("dialog", "dialog",
      { "aria-labelledby": "title", "aria-describedby": "hint", tabindex: -1 },
      make("box", "div", {}, make("title", "h1", { id: "title" }), make("hint", "p", { id: "hint", role: "status" }),
        make("detail", "p"), make("wake", "button")));
    on(notice, "mousedown", (event) => event.preventDefault()); // the page keeps the focus
    on(parts.stay, "click", () => open && send({ type: "stay" }));
    on(parts.wake, "click", wake); // what no listener of ours sees first: made by an assistive program
    on(dialog, "close", () => mode && cover());
    shadow.append(notice, dialog);
  }
  if (host.isConnected) return;
  page.documentElement?.append(host);
  dialog.open = false;
};

// --- the notice before a sleep ---

let sleepsAt, ticker, grace = never, saved, stays;

const shown = () => notice && !notice.hidden;
const reveal = () => {
  place();
  if (!told.notice) return;
  notice.hidden = false;
  try { notice.showPopover(); } catch {} // above everything, where the browser can
};
const hide = () => {
  notice.hidden = true;
  try { notice.hidePopover(); } catch {}
};
const tick = () => {
  const seconds = Math.ceil(sleepsAt - Date.now() / 1000);
  const words = text(seconds > 0 ? "notice.text" : "notice.now", { seconds });
  say("left", words);
  if (!parts.said.textContent || seconds === 10) say("said", words);
  if (seconds > 5 || saved) return;
  saved = true;
  save({ seconds: Math.max(0, seconds) });
};
const save = ({ seconds }) => { // a moment before the pod ends; some programs do so on a blur
  dispatchEvent(new CustomEvent("user-pods:sleep", { detail: { seconds } }));
  if (seconds) dispatchEvent(new Event("blur"));
};
const stop = () => { clearInterval(ticker); ticker = saved = 0; };
const warn = (at) => {
  place();
  sleepsAt = at;
  if (!ticker) {
    grace = never;
    stays = ":hover, :focus-within";
    say("said", "");
    say("stay", text("notice.stay", { minutes: told.stay }));
    notice.setAttribute("aria-label", text("notice.title"));
    reveal();
    ticker = setInterval(tick, 1000);
  }
  setTimeout(() => ticker && tick(), 100); // a live region has to be there before its text
};
const dismiss = () => { // whoever moves needs no warning; it stays a moment for those who reach for its button
  if (!ticker) return;
  stop();
  say("left", text("notice.staying"));
  grace = Math.max(grace, now() + 1500);
  fade();
};
const fade = () => {
  if (ticker || !shown()) return;
  if (now() < grace || notice.matches(stays)) setTimeout(fade, 250);
  else hide();
};
const tell = (words, time) => { // the answer to the notice's button
  if (!shown()) return;
  say("left", words);
  say("said", words);
  grace = now() + time;
  stays = ":focus-within"; // a finger that has touched it hovers for ever
  fade();
};

// --- asleep: nothing reaches a page whose pod is gone, until the pod is back and the page is loaded again ---

let mode = "", pod, asked = never, loading = never;
const KEY = /^(.|E.+|Tab|Back.+|Del.+|Ins.+|Home|Page.+|Arrow.+)$/u; // Enter, Escape, End, …

const guard = (event) => {
  const { type, cancelable } = event;
  event.stopImmediatePropagation();
  const key = type === "keydown" && KEY.test(event.key) && !(event.ctrlKey || event.metaKey || event.altKey);
  if (key || cancelable && !type.startsWith("key")) event.preventDefault(); // but the browser's own keys work
  if (key && !event.repeat || type === "click") wake();
};
const cover = () => {
  place();
  if (!dialog.open && host.isConnected) dialog.showModal();
  (parts.wake.hidden ? dialog : parts.wake).focus();
};
const free = () => {
  mode = "";
  dialog.close();
};
const show = (to, title, detail = "") => {
  place();
  if (to === "asleep" && !mode && !saved) save({ seconds: 0 });
  stop();
  if (shown()) hide();
  mode = to;
  if (to !== "waking") asked = never;
  say("title", title);
  say("hint", text(`${to}.hint`));
  say("detail", detail);
  dialog.className = to;
  say("wake", text(`${to}.button`));
  parts.wake.hidden = !parts.wake.textContent;
  cover();
};
const waking = (title) => show("waking", text(title));
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
  if (isLocal(page)) { // it comes from no server, and stays as it is
    if (open && mode) free();
    pod = undefined;
    return;
  }
  const ready = () => show("ready", text("ready.title"));
  let recent = [0, 0, 0];
  try {
    recent = JSON.parse(sessionStorage.userPods ?? "[]").filter((at) => Date.now() - at < 6e4);
    if (isAsked || recent.length < 3) sessionStorage.userPods = JSON.stringify([...recent, Date.now()].slice(-3));
  } catch {}
  if (!isAsked && (recent.length > 2 || page.hidden)) return ready();
  loading = now();
  setTimeout(ready, 3000); // the page may ask whether to leave, and its user may stay
  location.reload();
};

// --- what the gateway says ---

const handlers = {
  hello: (message) => told = message,
  state: ({ phase, pod: current, sleeps_at: sleeps, asleep_since: since, interrupted, now: at }) => {
    const skew = Date.now() / 1000 - at, gone = pod && current !== pod;
    pod ??= current;
    if (/released|deleting/.test(phase)) show("gone", text("gone.title"));
    else if (phase === "asleep") {
      pod ??= "none"; // a page that was opened meanwhile has to be loaded again, too
      const title = since ? text("asleep.title", { time: clock(since + skew) }) : text("asleep.title.unknown");
      show("asleep", title, text(interrupted ? "asleep.interrupted" : "asleep.note"));
    } else if (gone && phase === "ready") load();
    else if (gone || mode === "asleep" && !current) {
      if (mode !== "waking" && mode !== phase) waking(mode ? "waking.title" : "replaced.title");
    } else {
      if (mode) free();
      if (sleeps && sleeps - at <= (told.notice || 5) + 0.5) warn(sleeps + skew);
      else dismiss();
    }
  },
  progress: ({ stage, detail }) => {
    if (mode !== "waking") return;
    const title = text(`stage.${stage}`);
    if (title) say("title", title);
    if (stage === "delayed") say("detail", detail);
    cover();
  },
  save,
  ready: () => { if (mode && mode !== "gone") load(); },
  failed: ({ title, detail }) => mode ? show("failed", title, detail) : tell(`${title}. ${detail}`, 9000),
  stayed: ({ until }) => tell(text("notice.stayed", { time: clock(until) }), 3000),
};

const OWN = { blur: onFocus, focus: onFocus, pagehide: disconnect, freeze: disconnect, pageshow: again, resume: again,
  online: again, gamepadconnected: play, visibilitychange: onVisible };
hook(root);
connect();
})();
