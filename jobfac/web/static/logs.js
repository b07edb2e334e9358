"use strict";
// The output of a run, as it comes. Everything is put in as text, never as HTML.
(() => {
  const log = document.querySelector(".log");
  if (!log) return;
  const bar = document.querySelector(".logbar"), count = document.querySelector("#lines"), news = document.querySelector("#news");
  const part = (name) => bar.querySelector(`[data-log=${name}]`);
  const MOST = 50000; // lines kept; older ones go
  let number = 0, open = { stdout: null, stderr: null }, atStart = { stdout: false, stderr: false }, styles = { stdout: {}, stderr: {} }, pending = [], unseen = 0, following = log.dataset.over !== "true" || !location.hash;

  // Select Graphic Rendition; every other escape sequence is left out.
  const SEQUENCE = /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;

  // The rest of a sequence may come with the next part.
  const UNFINISHED = /\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*)?$/, begun = { stdout: "", stderr: "" };

  function restyle(style, codes) {
    const found = (codes || "0").split(/[;:]/).map(Number);
    for (let at = 0; at < found.length; at += 1) {
      const code = found[at];
      if (code === 0) Object.keys(style).forEach((key) => delete style[key]);
      else if (code >= 1 && code <= 4) style[`a${code}`] = `a${code}`;
      else if (code === 22) { delete style.a1; delete style.a2; }
      else if (code === 23 || code === 24) delete style[`a${code - 20}`];
      else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) style.f = `f${code % 10}`;
      else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) style.b = `b${code % 10}`;
      else if (code === 39) delete style.f;
      else if (code === 49) delete style.b;
      else if (code === 38 || code === 48) at += found[at + 1] === 5 ? 2 : 4;
    }
  }

  function write(line, text, style) {
    let at = 0;
    const put = (piece) => {
      if (!piece) return;
      const names = Object.values(style);
      if (!names.length) { line.append(piece); return; }
      const made = document.createElement("span");
      made.className = names.join(" ");
      made.textContent = piece;
      line.append(made);
    };
    for (const found of text.matchAll(SEQUENCE)) {
      put(text.slice(at, found.index));
      if (found[1] !== undefined) restyle(style, found[1]);
      at = found.index + found[0].length;
    }
    put(text.slice(at));
  }

  function newLine(stream) {
    number += 1;
    const line = document.createElement("div"), link = document.createElement("a"), text = document.createElement("span");
    line.className = `ln ${stream}`;
    line.id = `L${number}`;
    link.href = `#L${number}`;
    link.textContent = number;
    link.tabIndex = -1;
    line.append(link, text);
    pending.push(line);
    return { line, text };
  }

  function add(stream, part) {
    const text = begun[stream] + part, cut = text.match(UNFINISHED)?.[0] ?? "";
    begun[stream] = cut.length < 100 ? cut : "";
    const pieces = text.slice(0, text.length - begun[stream].length).split("\n");
    pieces.forEach((piece, place) => {
      if (place > 0) { open[stream] = null; atStart[stream] = false; }
      if (place === pieces.length - 1 && piece === "") return;
      open[stream] ??= newLine(stream);
      // A progress bar draws over its line. Until it does, the line stays: its end may follow, even in the next part.
      const shown = piece.replace(/\r+$/, ""), last = shown.lastIndexOf("\r");
      if (shown && (atStart[stream] || last >= 0)) open[stream].text.textContent = "";
      atStart[stream] = piece.length > shown.length || (atStart[stream] && !shown);
      write(open[stream].text, shown.slice(last + 1), styles[stream]);
    });
  }

  function mark(words) {
    open = { stdout: null, stderr: null };
    atStart = { stdout: false, stderr: false };
    const line = document.createElement("div");
    line.className = "cut";
    line.textContent = words;
    pending.push(line);
  }

  let gone = 0; // lines that are not shown any more
  const top = document.createElement("div");
  top.className = "cut";

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;

  function flush() {
    if (!pending.length) return;
    unseen += pending.length;
    pending.forEach(check);
    log.append(...pending);
    pending = [];
    let height = 0;
    while (log.childElementCount > MOST) {
      const first = gone ? top.nextSibling : log.firstChild;
      height += following ? 0 : first.offsetHeight;
      if (first.matches(".ln")) gone += 1;
      first.remove();
      if (gone) log.prepend(top);
    }
    top.textContent = `${gone.toLocaleString()} earlier line${gone === 1 ? " is" : "s are"} not shown here; the links above have all`;
    if (height) log.scrollTop -= height;
    count.textContent = `${number.toLocaleString()} line${number === 1 ? "" : "s"}`;
    if (following) log.scrollTop = log.scrollHeight;
    else if (unseen) { news.hidden = false; news.textContent = `${unseen.toLocaleString()} new line${unseen === 1 ? "" : "s"} ↓`; }
    if (location.hash.startsWith("#L") && !jumped) jump();
  }

  let jumped = false;
  function jump() {
    const line = document.getElementById(location.hash.slice(1));
    if (!line || !log.contains(line)) return;
    jumped = true;
    following = false;
    log.querySelectorAll(".at").forEach((one) => one.classList.remove("at"));
    line.classList.add("at");
    log.scrollTop = line.offsetTop - log.clientHeight / 3;
  }
  addEventListener("hashchange", () => { jumped = false; jump(); });

  // Reading upwards ends the following, the end begins it again.
  let before = 0;
  log.addEventListener("scroll", () => {
    if (log.scrollTop < before && !atEnd()) following = false;
    if (atEnd()) { following = true; unseen = 0; news.hidden = true; }
    before = log.scrollTop;
  });
  news.addEventListener("click", () => { following = true; unseen = 0; news.hidden = true; log.scrollTop = log.scrollHeight; });
  setInterval(flush, 100);

  // Streams, search, wrap
  const stream = part("stream"), search = part("search"), hits = part("hits");
  function check(line) {
    const words = search.value.toLowerCase();
    line.hidden = stream.value !== "" && line.classList.contains("ln") && !line.classList.contains(stream.value);
    const hit = words !== "" && !line.hidden && line.lastChild.textContent.toLowerCase().includes(words);
    line.classList.toggle("hit", hit);
    return hit;
  }
  function show() {
    const found = [...log.children].filter(check).length;
    hits.textContent = search.value ? `${found.toLocaleString()} found${gone ? " in the lines shown" : ""}` : "";
  }
  stream.addEventListener("change", show);
  search.addEventListener("input", show);
  function next(step) {
    const found = [...log.querySelectorAll(".hit")];
    if (!found.length) return;
    const at = found.findIndex((one) => one.classList.contains("at"));
    const line = found[(at + step + found.length) % found.length];
    log.querySelectorAll(".at").forEach((one) => one.classList.remove("at"));
    line.classList.add("at");
    following = false;
    log.scrollTop = line.offsetTop - log.clientHeight / 3;
  }
  search.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); next(event.shiftKey ? -1 : 1); } });
  part("line").addEventListener("keydown", (event) => {
    const asked = parseInt(event.target.value, 10) || 0, wanted = Math.min(number, Math.max(asked, gone + 1));
    if (event.key !== "Enter" || asked < 1) return;
    event.preventDefault();
    if (location.hash === `#L${wanted}`) jump();
    else location.hash = `#L${wanted}`;
  });
  part("wrap").addEventListener("change", (event) => log.classList.toggle("wrap", event.target.checked));

  // A browser does not try again after an answer such as 502, which a proxy gives while the API restarts.
  const live = document.querySelector("#livemark"), words = live.dataset.words;
  count.textContent = "0 lines";
  live.textContent = words;
  let source = null, isOver = false, position = "", wait = 1, again = null;
  function connect() {
    if (source || document.hidden) return;
    const url = new URL(log.dataset.output, location.href);
    if (position) url.searchParams.set("after", position);
    source = new EventSource(url);
    source.onopen = () => { wait = 1; live.textContent = words; };
    source.onerror = () => {
      disconnect();
      live.textContent = "The output cannot be read; trying again.";
      again = setTimeout(connect, wait * 1000);
      wait = Math.min(2 * wait, 30);
    };
    source.addEventListener("output", receive);
    source.addEventListener("end", () => { disconnect(); isOver = true; log.dataset.over = "true"; flush(); live.textContent = number ? "complete" : "It wrote nothing."; });
  }
  function disconnect() {
    clearTimeout(again);
    source?.close();
    source = null;
  }
  function receive(event) {
    const said = JSON.parse(event.data);
    position = event.lastEventId;
    if (said.skipped) mark(`… ${said.skipped.toLocaleString()} bytes were cut here; the head and the tail are kept …`);
    if (log.dataset.attempt && said.attempt !== Number(log.dataset.attempt)) { mark(`attempt ${said.attempt}`); log.dataset.attempt = said.attempt; }
    add(said.stream, said.text);
  }
  connect();
  addEventListener("pagehide", disconnect);
  const resume = () => { if (document.hidden) disconnect(); else if (!isOver) connect(); };
  addEventListener("pageshow", resume);
  document.addEventListener("visibilitychange", resume);
})();
