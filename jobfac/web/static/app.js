"use strict";
// Everything else is HTML and htmx: this file keeps times, the connection and the keys.
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `jobfac-zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax`;

// Times

function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds) % 60} s` : `${Math.floor(seconds)} s`;
}

function rough(seconds) { // how long ago: without seconds after the first minute
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : span(seconds);
}

let shown = "", offset = 0; // the server's clock counts
function tick() {
  const read = find("#counts").dataset.now;
  if (read !== shown) { shown = read; offset = Date.parse(read) - Date.now(); }
  const now = Date.now() + offset;
  for (const time of all("time[data-ago], time[data-since]")) {
    const age = (now - Date.parse(time.dateTime)) / 1000;
    const words = "since" in time.dataset ? span(age) : age >= 0 ? `${rough(age)} ago` : `in ${rough(-age)}`;
    if (time.textContent !== words) time.textContent = words;
  }
}
setInterval(tick, 1000);

// The connection: the page is read again when something changed, but not while somebody works with it.

const offline = find("#offline"), news = find("#changed"), unreachable = offline.textContent;
const PATIENCE = 60000, DEAF = 45000; // milliseconds without a touch that somebody still works; without a word of the server
const AGE = 30000; // milliseconds after which a page is read again although no change is known: what is dead sends none
const since = (moment) => Math.abs(Date.now() - moment); // the browser's clock may be set back
let source = null, stale = false, uncounted = false, told = false, last = Date.now(), counted = 0, lost = false, heard = 0, touched = Date.now();
for (const kind of ["keydown", "pointerdown", "pointermove", "input"]) addEventListener(kind, () => { touched = Date.now(); }, true);

const renewed = find("#refresh")?.getAttribute("hx-select-oob") || "#page"; // a note that is being written is in no such part
function busy() {
  if (find("[popover]:popover-open") || all("#page form[data-form] :is(input, textarea)").some((one) => one.closest(renewed) && one.value !== one.defaultValue)) return true;
  if (since(touched) > PATIENCE) return false;
  const selection = getSelection();
  const field = document.activeElement?.matches?.("#page input, #page select, #page textarea") && document.activeElement.closest(renewed);
  if (find("#page [data-row] :is(button, summary):hover")) return true; // the rows would move under the pointer
  return field || (selection && !selection.isCollapsed) || find("#page details[data-menu][open]") || find("#page input:checked:not([data-keep])");
}

function change() { stale = uncounted = told = true; refresh(); }

function read() {
  news.hidden = true;
  stale = uncounted = told = false;
  last = Date.now();
  htmx.trigger("#refresh", "changed");
}

function refresh() {
  if (source && !stale && since(last) > AGE) stale = uncounted = true;
  if (!stale || document.hidden || since(last) < 2000) return;
  if (!busy()) { read(); return; }
  news.hidden = !told;
  if (uncounted && since(counted) > 5000) { uncounted = false; counted = Date.now(); htmx.trigger("#recount", "changed"); }
}
news.addEventListener("click", () => {
  getSelection().removeAllRanges();
  document.activeElement?.blur();
  read();
});

function say(words) { offline.hidden = !words; offline.textContent = words || unreachable; }

// A browser holds six connections to one server for all its windows. Live output takes one, so its page asks instead.
const follows = () => find(".log[data-over=false]") !== null;
let followed = follows();
setInterval(() => {
  if (followed) stale = uncounted = true; // once more after the end of the output
  if (followed && !follows()) told = true;
  followed = follows();
  connect();
}, 3000);

function connect() {
  if (source || document.hidden || !find("#refresh") || follows()) return;
  heard = Date.now();
  source = new EventSource("/live");
  source.addEventListener("connected", () => {
    heard = Date.now();
    if (lost) { last = 0; change(); }
    lost = false;
    say("");
  });
  source.addEventListener("changed", (event) => { heard = Date.now(); say(""); setTimeout(change, JSON.parse(event.data).wait * 500); });
  source.addEventListener("beat", (event) => {
    heard = Date.now();
    const silent = JSON.parse(event.data).silent;
    say(silent && `The database does not answer. The page shows what was at ${new Date(Date.now() - 1000 * silent).toLocaleTimeString()}.`);
  });
  source.onerror = () => {
    lost = true;
    say(unreachable);
    // An answer, but no stream: the page that is read says why. It leads to the login if the session is over.
    if (source.readyState === EventSource.CLOSED) { stale = true; disconnect(); setTimeout(connect, 3000); }
  };
}

function disconnect() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else { stale = uncounted = true; connect(); refresh(); }
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
setInterval(refresh, 1000);
setInterval(() => { if (source && since(heard) > DEAF) { unanswered(); disconnect(); connect(); } }, 5000);
function unanswered() { stale = lost = true; say(unreachable); }
document.addEventListener("htmx:sendError", unanswered);
document.addEventListener("htmx:timeout", unanswered);
document.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status > 500) unanswered(); });
document.addEventListener("htmx:afterSettle", () => { if (!source) { lost = false; say(""); } tick(); if (chosen) choose(find(`[data-row="${CSS.escape(chosen)}"]`), false); });

// Keys

let chosen = null;
function choose(row, scroll = true) {
  all(".current[data-row]").forEach((one) => one.classList.remove("current"));
  if (!row) return;
  chosen = row.dataset.row;
  row.classList.add("current");
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

function move(step) {
  const rows = all("[data-row]").filter((one) => one.offsetParent);
  const at = rows.findIndex((one) => one.classList.contains("current"));
  choose(rows[Math.min(rows.length - 1, Math.max(0, at + step))]);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (find("[popover]:popover-open")) return;
  const row = find(".current[data-row]"), place = row || document;
  // Never what is in a row that nobody has chosen, nor something else in place of a row that is gone.
  const press = (selector) => {
    const target = row || !chosen ? all(selector, place).find((one) => row || !one.closest("[data-row]")) : null;
    target?.focus();
    target?.click();
    return Boolean(target);
  };
  const keys = {
    "/": () => { find("#q")?.focus(); return true; },
    j: () => { move(1); return true; },
    k: () => { move(-1); return true; },
    r: () => press("[data-key=r]"),
    s: () => press("[data-key=s]"),
    "?": () => { find("#keys")?.showPopover(); return true; },
    Enter: () => row && !event.target.matches("a, button, summary, input") && press("a[data-open]"),
  };
  if (keys[event.key]?.()) event.preventDefault();
});

// Small helps: copying, selecting all, the menu of narrow screens, the theme

document.addEventListener("click", async (event) => {
  const target = event.target.closest("[data-copy], [data-menu-button], [data-theme-to]");
  if (!target) return;
  if ("copy" in target.dataset) {
    const before = target.textContent;
    try { await navigator.clipboard.writeText(target.dataset.copy); target.textContent = "Copied"; } catch { target.textContent = "Select and copy"; }
    setTimeout(() => { target.textContent = before; }, 1500);
  } else if ("menuButton" in target.dataset) {
    target.setAttribute("aria-expanded", target.getAttribute("aria-expanded") !== "true");
  }
});

// One question for all rows: it is filled with the row's job before it opens, or now, if it was opened before this ran.
const fill = (button) => {
  for (const one of all("[data-of]", document.getElementById(button.getAttribute("popovertarget")))) {
    if (one.matches("form")) one.action = one.dataset.of.replace("JOB", encodeURIComponent(button.dataset.fill));
    else one.textContent = one.dataset.of.replace("JOB", () => button.dataset.fill);
  }
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-fill]");
  if (button) fill(button);
}, true);
if (document.activeElement?.matches("[data-fill]")) fill(document.activeElement);

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) all("input[name=run]", event.target.form).forEach((one) => { one.checked = event.target.checked; });
  if (event.target.matches("input[name=run], [data-all]")) {
    const number = all("input[name=run]:checked", event.target.form).length;
    all("[data-selected]", event.target.form).forEach((one) => { one.textContent = `${number} run${number === 1 ? "" : "s"}`; });
  }
  if (event.target.matches("select[data-go]")) event.target.form.requestSubmit();
});
// A form that was sent is not sent again by a second click.
document.addEventListener("submit", (event) => setTimeout(() => all("button", event.target).forEach((one) => { one.disabled = true; }), 0));
addEventListener("pageshow", () => all("form button[disabled]").forEach((one) => { one.disabled = false; }));

connect();
