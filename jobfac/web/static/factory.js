import { element, table } from "./element.js";

const ACTIVE = ["scheduled", "blocked", "queued", "running", "stopping"];
const FAILED = ["failed", "timed_out", "start_failed", "lost", "mixed"];
const CHOICES = { "all runs": [], "not over": ACTIVE, "failed": FAILED };
const find = (id) => document.getElementById(id);
let shown = null; // the id of the run that is looked at

class Refused extends Error {}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch(path, { ...options, headers: { ...headers, ...options.headers } });
  find("login").hidden = answer.status !== 401;
  find("lists").hidden = answer.status === 401;
  if (answer.status === 401) sessionStorage.removeItem("key"); // tried again and again it would count as guessing
  if (!answer.ok) throw new Refused((await answer.json()).detail);
  return answer;
}

const get = async (path) => (await ask(path)).json();

function button(text, path, then = () => {}) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", () => attempt(async () => {
    const answer = await ask(path, { method: "POST" });
    await then(answer);
    await refresh();
  }));
  return made;
}

async function attempt(work) {
  try {
    await work();
    find("problem").hidden = true;
  } catch (error) {
    find("problem").textContent = error instanceof Refused ? error.message : "The server cannot be reached.";
    find("problem").hidden = find("lists").hidden;
  }
}

const moment = (text) => (text ? new Date(text).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" }) : "");
const state = (word) => element("span", { class: `state ${word}` }, word);

function lasted(run) {
  if (!run.started_at) return "";
  const seconds = Math.max(0, (run.ended_at ? new Date(run.ended_at) : Date.now()) - new Date(run.started_at)) / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function ending(run) {
  const parts = [run.reason || (run.exit_code !== null && `exit code ${run.exit_code}`), run.exit_message, ACTIVE.includes(run.state) && run.message,
    ACTIVE.includes(run.state) && run.progress !== null && `${Math.round(run.progress * 100)} %`];
  return parts.filter(Boolean).join(", ");
}

function look(id) {
  const link = element("a", { href: `#run-${id}` }, id);
  link.addEventListener("click", () => { shown = id; attempt(refresh); find("shown").scrollIntoView(); });
  return link;
}

function fill(place, rows, titles, empty) {
  find(place).replaceChildren(rows.length ? table(rows, titles) : element("p", { class: "what" }, empty));
}

async function showRun() {
  const run = await get(`/v1/runs/${shown}`);
  const output = await Promise.all(["stdout", "stderr"].map(async (stream) =>
    (await ask(`/v1/runs/${shown}/output?stream=${stream}`, { headers: { Accept: "text/plain" } })).text()));
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => { shown = null; find("shown").hidden = true; });
  const steps = ACTIVE.includes(run.state) ? button("Stop", `/v1/runs/${run.id}/stop`)
    : button("Run again", `/v1/runs/${run.id}/retry`, async (answer) => { shown = (await answer.json()).id; });
  const facts = [`created ${moment(run.created_at)}`, run.worker && `on ${run.worker}`, run.started_at && `took ${lasted(run)}`,
    run.attempt > 1 && `attempt ${run.attempt}`, ending(run)].filter(Boolean).join(", ");
  find("shown").replaceChildren(
    element("h2", {}, `Run ${run.id} of ${run.job} `, state(run.state)), element("p", {}, facts, " ", steps, " ", close),
    ...output.flatMap((text, number) => (text ? [element("h3", {}, ["Output", "Errors"][number]), element("pre", {}, text)] : [])),
    output.join("") ? "" : element("p", { class: "what" }, "It has written nothing."));
  find("shown").hidden = false;
}

async function refresh() {
  const states = CHOICES[find("state").value].map((word) => `&state=${word}`).join("");
  const workers = (await get("/v1/workers")).items; // alone: who is not let in is told so once
  const [runs, active, jobs, schedules] = (await Promise.all(
    [`/v1/runs?limit=50${states}`, `/v1/runs?limit=500${ACTIVE.map((word) => `&state=${word}`).join("")}`,
      "/v1/jobs?limit=500", "/v1/schedules"].map(get))).map((list) => list.items);
  const sum = (key) => workers.reduce((total, worker) => total + worker[key], 0);
  const count = (word) => active.filter((run) => run.state === word).length;
  find("summary").textContent = `${workers.length} worker${workers.length === 1 ? "" : "s"}, ${sum("busy")} of ${sum("slots")} slots busy, `
    + `${count("queued")}${active.length === 500 ? " or more" : ""} runs queued`;
  fill("runs", runs.map((run) => [look(run.id), run.job, state(run.state), moment(run.started_at || run.created_at), lasted(run),
    run.worker || "", ending(run)]), ["Run", "Job", "State", "Time", "Took", "Worker", "Result"], "No runs.");
  const next = (job) => schedules.filter((one) => one.job === job.id && !one.paused && one.fire_at).map((one) => one.fire_at).sort()[0];
  fill("jobs", jobs.map((job) => [job.id, job.enabled ? job.kind : `${job.kind}, disabled`, job.category || "", moment(next(job)),
    button("Start", `/v1/jobs/${encodeURIComponent(job.id)}/runs`, async (answer) => { shown = (await answer.json()).id; })]),
  ["Job", "Kind", "Category", "Next", ""], "No jobs yet: jobfac apply FILE defines some.");
  fill("workers", workers.map((worker) => [worker.name, worker.host, worker.pools.join(", "), `${worker.busy} of ${worker.slots}`,
    state(worker.state), moment(worker.seen_at)]), ["Worker", "Host", "Pools", "Busy", "State", "Last seen"], "No workers are alive.");
  if (shown !== null) await showRun();
}

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function follow() {
  // Any event, and every sign of life between them, is a reason to look again; a burst is one reason.
  const reader = (await ask("/v1/events")).body.getReader();
  while (!(await reader.read()).done) {
    await attempt(refresh);
    await pause(500);
  }
}

async function live() {
  for (;;) {
    await attempt(async () => { await refresh(); await follow(); });
    await pause(3000);
  }
}

find("state").append(...Object.keys(CHOICES).map((name) => element("option", {}, name)));
find("state").addEventListener("change", () => attempt(refresh));
find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", find("key").value.trim());
  attempt(refresh);
});
live();
