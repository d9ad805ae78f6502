"use strict";
const texts = JSON.parse(document.currentScript.dataset.texts);
const by = (id) => document.getElementById(id);
const say = (id, text) => { by(id).textContent = text; by(id).hidden = !text; };
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const source = new EventSource("/.user-pods/wake");
for (const [stage, { step, detail }] of Object.entries(texts.stages))
  source.addEventListener(stage, (event) => {
    const item = document.createElement("li"), time = document.createElement("span");
    item.textContent = detail;
    time.textContent = JSON.parse(event.data).seconds.toFixed(2) + " s";
    item.append(time);
    by("stages").append(item);
    if (by("hint").textContent !== step + " …") by("hint").textContent = step + " …";
  });
source.addEventListener("expected", (event) => say("expected", fill(texts.expected, JSON.parse(event.data))));
source.addEventListener("position", (event) => {
  const place = JSON.parse(event.data);
  say("position", place.position ? fill(texts.position, place) : "");
});
source.addEventListener("warning", (event) => {
  const { kind, reason } = JSON.parse(event.data);
  by("delay").textContent = kind ? texts[kind] : "";
  by("reason").textContent = reason;
});
source.addEventListener("answers", () => { source.close(); location.reload(); });
source.addEventListener("failed", (event) => {
  source.close();
  const { reason, page } = JSON.parse(event.data);
  document.title = by("title").textContent = page.title;
  for (const id of ["hint", "expected", "position", "delay"]) say(id, "");
  by("bar").remove();
  by("failure").textContent = page.text + " " + page.next;
  by("reason").textContent = reason;
  by("actions").hidden = false;
});
source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 2000); });
by("retry").addEventListener("click", () => location.reload());
