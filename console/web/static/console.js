// The console's own script. Without it all pages and actions work, but are not live.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Times: <time datetime> elements are UTC, unless the person chose the device's zone.
const local = document.documentElement.dataset.zone === "device";
const two = (number) => String(number).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function clock(at, precise) {
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  const today = at.toDateString() === new Date().toDateString();
  const ms = precise ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "";
  const seconds = today || precise ? `:${two(at.getSeconds())}${ms}` : "";
  return today ? time + seconds : `${at.getDate()} ${MONTHS[at.getMonth()]} ${time}${seconds}`;
}

// The zone is named once, in the header: "UTC+1".
function zone(at) {
  const minutes = -at.getTimezoneOffset();
  const hours = Math.floor(Math.abs(minutes) / 60);
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${two(rest)}` : ""}`;
}

function showTimes(root) {
  if (!local) return;
  for (const element of all("time[datetime]", root)) {
    const at = new Date(element.dateTime);
    const text = clock(at, "ms" in element.dataset) + (element.id === "now" ? ` ${zone(at)}` : "");
    if (element.textContent !== text) element.textContent = text;
  }
}

// Dialogs: browsers without the `command` attribute get it here.
if (!("commandForElement" in HTMLButtonElement.prototype)) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[commandfor]");
    const dialog = button && document.getElementById(button.getAttribute("commandfor"));
    if (!dialog) return;
    if (button.getAttribute("command") === "show-modal") dialog.showModal();
    if (button.getAttribute("command") === "close") dialog.close();
  });
}

document.addEventListener("click", async (event) => {
  const close = event.target.closest("[data-close]");
  if (close) close.closest(".note").remove();
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText($(copy.dataset.copy).textContent);
    const label = copy.lastChild;
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = "Copy"; }, 2000);
  }
});

// A form that was sent once does not send again. The browser may restore it with the page, so it is free again then.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post" || event.defaultPrevented) return;
  if (event.target.action.endsWith(".csv")) { // a file: the page stays
    event.target.closest("dialog").close();
    return;
  }
  setTimeout(() => all("button", event.target).forEach((button) => { button.disabled = true; }));
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// The live stream. htmx closes it while the tab is hidden; "Pause" removes it.
const stream = $("#stream");
const state = $("#state");
const pause = $("#pause");
let updatedAt = Date.now();
let waiting = "";

function icon(name) {
  return `<svg class="i" aria-hidden="true"><use href="#i-${name}"/></svg>`;
}

function show(tone, shape, word) {
  const key = `${tone}${word}`;
  if (waiting === key) return;
  waiting = key;
  state.innerHTML = `<span class="st ${tone}">${icon(shape)}${word}</span>`;
}

function showState() {
  if (document.hidden || !stream) return;
  const seconds = Math.round((Date.now() - updatedAt) / 1000);
  if (pause.getAttribute("aria-pressed") === "true") show("off", "pause", "Paused");
  else if (seconds < 5) show("ok", "ok", "Live");
  else show("warn", "warn", `No update for ${seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`}`);
}

function connect() {
  const element = document.createElement("div");
  element.hidden = true;
  element.id = "connection";
  element.setAttribute("hx-sse:connect", stream.dataset.url);
  element.setAttribute("hx-swap", "none");
  stream.append(element);
  htmx.process(element);
}

// Lists never move under the reader: `data-keys` has the keys of the newest rows, `data-newest` that of the first row
// on this page. The difference is a link that loads the page again. With `data-sorted` the keys sort by time, and the
// first row may have gone.
function showNews() {
  for (const list of all("[data-newest]")) {
    const source = $("[data-keys]", list.closest(".card"));
    const keys = source ? source.dataset.keys.split(" ").filter(Boolean) : [];
    const newest = list.dataset.newest;
    const place = "sorted" in list.dataset ? keys.findIndex((key) => key <= newest) : keys.indexOf(newest);
    const news = place < 0 ? keys.length : place;
    if (!news) continue;
    let link = source.nextElementSibling;
    if (!link) {
      link = document.createElement("a");
      link.className = "btn tiny";
      link.href = "";
      source.after(link);
    }
    link.textContent = `Show ${news}${place < 0 && newest ? "+" : ""} new`;
  }
}

if (stream) {
  connect();
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", paused);
    pause.textContent = paused ? "Resume" : "Pause";
    updatedAt = Date.now();
    if (paused) stream.replaceChildren();
    else connect();
    showState();
  });
  document.addEventListener("htmx:sse:after:message", () => {
    updatedAt = Date.now();
    showTimes(document);
    showState();
    showNews();
    const isOld = all("[data-layout]").some((element, _place, [first]) => element.dataset.layout !== first.dataset.layout);
    if (isOld && !document.activeElement.matches("input")) location.reload(); // else a person may be typing
    document.dispatchEvent(new Event("tick"));
  });
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) location.reload();
  });
  document.addEventListener("visibilitychange", () => { updatedAt = Date.now(); });
  setInterval(showState, 1000);
}

// A page whose part of Ackstream is away comes back by itself.
if ($("[data-retry]")) {
  setInterval(async () => {
    const answer = await fetch(location.href).catch(() => null);
    if (answer && answer.ok) location.reload();
  }, 5000);
}

all("dialog[data-open]").forEach((dialog) => dialog.showModal());
all("[data-copy]").forEach((button) => { button.hidden = !navigator.clipboard; });
showTimes(document);
document.addEventListener("htmx:after:swap", () => showTimes(document));
