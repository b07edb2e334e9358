"""From Agent's jobs to definitions: ids, notifications, and the jobs, disabled."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobfac.control_characters import as_name
from jobfac.definitions import DefinitionError, from_data
from jobfac.importers.agent import schedules, sequences, steps
from jobfac.importers.agent.model import Agent, Job, Remark, Schedule, Step
from jobfac.importers.agent.steps import Options

FAILURES = ["failed", "timed_out", "start_failed", "lost"]
LEVELS = {1: ["succeeded"], 2: FAILURES, 3: ["succeeded", "mixed", *FAILURES, "stopped"]}
"""The events of a notification level of Agent. Of a start that is denied, because the job runs, Agent tells nobody."""

EMPTY_DESCRIPTIONS = ("", "no description available.")
UNCATEGORIZED = re.compile(r"\[uncategorized.*\]", re.IGNORECASE)
OF_PRODUCTS = re.compile(r"Report Server|REPL-.+|Data Collector|Log Shipping|Jobs from MSX", re.IGNORECASE)
"""Categories of jobs that other products make in Agent, and change there."""

TRANSLITERATED = str.maketrans({"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})
"""Letters that Unicode does not decompose into a letter and an accent."""

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


class Defined(NamedTuple):
    """A converted Agent job: the id of the job or sequence, its definitions by id, and its Agent schedules in order."""

    source: Job
    id: str
    bodies: dict[str, dict[str, Any]]
    schedules: list[Schedule]


@dataclass
class Converter:
    """Converts the jobs of one import. The same jobs in the same order get the same ids."""

    agent: Agent
    options: Options
    remarks: list[Remark] = field(default_factory=list)
    _taken: dict[str, int] = field(default_factory=dict)

    def convert(self) -> list[Defined]:
        """Convert all jobs, in order. Adds to ``remarks`` what could not be converted."""
        self.remarks += self.agent.remarks
        return [defined for job in self.agent.jobs if (defined := self._job(job)) is not None]

    def _job(self, job: Job) -> Defined | None:
        if not job.steps:
            self._remark(job, "it has no steps, so it was left out; add it by hand")
            return None
        job_id = self._id(job.name, "job", 100)
        scheduled = list(self._schedules(job))
        common = self._common(job, scheduled)
        if sequences.is_single(job):
            bodies = {job_id: self._program(job, job.steps[0]) | common}
            if job.steps[0].on_fail_action in (sequences.SUCCEED, sequences.GO):
                self._remark(job, "it reports a success when it fails; here it ends as failed", job.steps[0])
        else:
            bodies = self._sequence(job, job_id, common)
        self._losses(job)
        try:
            from_data({"jobs": bodies})
        except DefinitionError as error:
            self._remark(job, f"it was left out, because {error.problems[0].message}; define it by hand")
            return None
        return Defined(job, job_id, bodies, [schedule for schedule, _ in scheduled])

    def _sequence(self, job: Job, job_id: str, common: dict[str, Any]) -> dict[str, dict[str, Any]]:
        names: dict[int, str] = {}
        children: dict[int, str] = {}
        bodies: dict[str, dict[str, Any]] = {}
        inside: dict[str, int] = {}
        for step in job.steps:
            name = _unique(_slug(step.step_name) or f"step-{step.step_id}", inside)
            names[step.step_id] = name
            children[step.step_id] = self._id(f"{job_id}.{name}", "job", 128)
            child = self._program(job, step) | {"name": as_name(step.step_name[:128]) or name}
            if "category" in common:
                child["category"] = common["category"]
            bodies[children[step.step_id]] = child
        written = sequences.convert(job, names, children, lambda message: self._remark(job, message))
        body = {**common, "enabled": False, "steps": written}
        if again := sequences.repeated(written):
            most = body["maximum_visits"] = sequences.MOST_VISITS
            shown = ", ".join(again[:5]) + ", ..." * (len(again) > 5)
            limit = f"here a run ends as failed after {most:,} steps"
            remedy = "check maximum_visits and the setting sequence_limit"
            self._remark(job, f"Agent repeats its steps {shown} without a limit, and {limit}; {remedy}")
        return {job_id: body, **bodies}

    def _program(self, job: Job, step: Step) -> dict[str, Any]:
        return steps.convert(job, step, self.options, lambda message: self._remark(job, message, step))

    def _common(self, job: Job, scheduled: list[tuple[Schedule, dict[str, Any]]]) -> dict[str, Any]:
        """Return the keys that jobs and sequences share."""
        body: dict[str, Any] = {"name": as_name(job.name[:128]), "already_running": "deny"}
        if job.description.strip().lower() not in EMPTY_DESCRIPTIONS:
            body["description"] = job.description.replace("\0", "")
        if job.category and not UNCATEGORIZED.fullmatch(job.category):
            body["category"] = as_name(job.category[:128])
        taken: dict[str, int] = {}
        if scheduled:
            names = [_unique(_slug(schedule.name) or "schedule", taken) for schedule, _ in scheduled]
            body["schedules"] = [{**one, "name": name} for (_, one), name in zip(scheduled, names, strict=True)]
        if notify := self._notify(job):
            body["notify"] = notify
        return body

    def _schedules(self, job: Job) -> Iterator[tuple[Schedule, dict[str, Any]]]:
        """Return the convertible schedules of a job, each with its definition."""
        for schedule in job.schedules:
            notes: list[str] = []
            body = schedules.convert(schedule, self.options.timezone, notes.append)
            self.remarks += [Remark(schedule.place, message, job.name) for message in notes]
            if body is not None:
                yield schedule, body

    def _notify(self, job: Job) -> list[dict[str, Any]]:
        found = []
        for level, operator, kind in (
            (job.notify_level_email, job.email_operator, "email_address"),
            (job.notify_level_page, job.page_operator, "pager_address"),
        ):
            if level not in LEVELS or not operator:
                continue
            known = self.agent.operators.get(operator.lower())
            if known is not None and not known.enabled:
                why = "is disabled, so Agent tells nobody and notify is without that address; add it if you want it"
                self._remark(job, f"it notifies the operator '{operator}', which {why}")
                continue
            text = "" if known is None else getattr(known, kind)
            given = [one.strip() for one in re.split(r"[;,]", text) if one.strip()]
            addresses = [one for one in given if _ADDRESS.fullmatch(one)]
            for wrong in set(given) - set(addresses):
                self._remark(job, f"the operator '{operator}' has the address '{wrong}', which is none; correct it")
            if addresses:
                found.append({"on": LEVELS[level], "to": {"email": addresses}})
                if kind == "pager_address":
                    hours = "on the days and hours for pages that Agent has; here a message goes out at any time"
                    self._remark(job, f"it pages the operator '{operator}' {hours}, so choose the address")
            elif not given:
                what = "script the operator with the job, or write notify"
                self._remark(job, f"it notifies the operator '{operator}', whose address is not known; {what}")
        if job.notify_level_netsend and job.netsend_operator:
            self._remark(job, f"it notifies '{job.netsend_operator}' by net send, which no longer exists; use notify")
        return found

    def _losses(self, job: Job) -> None:
        if not job.enabled:
            self._remark(job, "it is disabled in Agent; leave it disabled here, or ask whether it is still wanted")
        sql = any(step.subsystem.lower() == "tsql" and not step.database_user_name for step in job.steps)
        if sql and job.owner and job.owner.lower() != "sa":
            login = job.owner.replace("'", "''")
            rights = f"give that no more rights, or begin the script with EXECUTE AS LOGIN = N'{login}' WITH NO REVERT"
            who = f"its owner '{job.owner}', unless that is a sysadmin; here it runs as the login of the connection"
            self._remark(job, f"Agent runs its T-SQL as {who}: {rights}")
        if OF_PRODUCTS.fullmatch(job.category):
            why = "was made by what its category names, which changes and starts it in Agent"
            self._remark(job, f"it {why}; leave it there and remove it here")
        if job.delete_level:
            self._remark(job, "Agent deletes it after it has run; delete it by hand, or give it a retention")
        if job.notify_level_eventlog:
            self._remark(job, "it writes to the event log of Windows; jobfac's log and its events have the same")
        for server in job.servers:
            if server.lower() not in ("(local)", "local"):
                self._remark(job, f"it is meant for the server '{server}'; choose workers by pool or labels")

    def _remark(self, job: Job, message: str, step: Step | None = None) -> None:
        place = job.place if step is None else step.place
        self.remarks.append(Remark(place, message, job.name, None if step is None else step.shown))

    def _id(self, text: str, fallback: str, longest: int) -> str:
        return _unique((_slug(text) or fallback)[:longest], self._taken)


def _slug(text: str) -> str:
    """Return the text as an id: without accents, and with hyphens in place of invalid characters."""
    letters = unicodedata.normalize("NFKD", text.translate(TRANSLITERATED))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-.")[:120]


def _unique(name: str, taken: dict[str, int]) -> str:
    """Return the name, or the name with the first free number. Names that differ only in case are equal.

    ``taken``: by name in lower case, the number that the last name made of it has.
    """
    found, number = name, taken.get(name.lower(), 1)
    while found.lower() in taken:
        number += 1
        found = f"{name[: 127 - len(str(number))]}-{number}"
    taken[name.lower()] = number
    taken.setdefault(found.lower(), 1)
    return found
