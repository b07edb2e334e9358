"""Read Agent's jobs from the calls in scripts: sp_add_job, sp_add_jobstep, sp_add_schedule and others."""

import bisect
from collections.abc import Callable, Iterator
from dataclasses import fields

from jobfac.importers.agent import parameters
from jobfac.importers.agent.calls import Call, Handle, JobName, Script, Unknown, Value
from jobfac.importers.agent.model import Agent, Job, Operator, Place, Remark, Schedule, Step
from jobfac.importers.agent.named import Named

IGNORED = frozenset(
    {
        "sp_add_category", "sp_add_proxy", "sp_grant_login_to_proxy", "sp_grant_proxy_to_subsystem", "sp_delete_job",
        "sp_delete_schedule", "sp_delete_jobserver", "sp_delete_category", "sp_delete_operator", "sp_executesql",
        "sp_revoke_login_from_proxy", "sp_update_category", "sp_help_job", "sp_addrolemember", "sp_addmessage",
    }
)  # fmt: skip
"""Procedures that add nothing to the definition of a job."""

NO_ALERTS = "jobfac has no alerts; let what finds the condition start the job"
REMEDIES = {
    "sp_add_alert": NO_ALERTS,
    "sp_update_alert": NO_ALERTS,
    "sp_add_notification": NO_ALERTS,
    "sp_start_job": "an import starts nothing; use jobfac start",
    "sp_stop_job": "an import stops nothing; use jobfac stop",
}
"""Procedures without a counterpart, each with what to do instead."""


def decode(data: bytes) -> tuple[str, str | None]:
    """Decode a script as SSMS and other tools save it.

    Returns the text with line feeds, and a warning about its encoding.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return lines(data.decode(encoding, errors="replace")), None
    if b"\0" in data[:2]:
        return lines(data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", errors="replace")), None
    try:
        return lines(data.decode("utf-8")), None
    except UnicodeDecodeError:
        doubt = "it is neither UTF-8 nor UTF-16, so it was read as Windows-1252; check names with special letters"
        return lines(data.decode("cp1252", errors="replace")), doubt


def lines(text: str) -> str:
    """Return the text with line feeds as line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class ScriptReader:
    """Reads scripts, one after the other, into ``agent``. Schedules and operators are known to later scripts too."""

    def __init__(self) -> None:
        self.agent = Agent()
        self._jobs = Named(self.agent.jobs)
        self._schedules = Named[Schedule]([])
        self._place = Place("")
        self._procedures: dict[str, Callable[[Call, Script], None]] = {
            "sp_add_job": self._add_job,
            "sp_update_job": self._update_job,
            "sp_add_jobstep": self._add_step,
            "sp_update_jobstep": self._update_step,
            "sp_add_jobschedule": self._add_job_schedule,
            "sp_add_schedule": self._add_schedule,
            "sp_update_schedule": self._update_schedule,
            "sp_attach_schedule": self._attach_schedule,
            "sp_add_jobserver": self._add_server,
            "sp_add_operator": self._add_operator,
            "sp_update_operator": self._add_operator,
        }

    def read(self, source: str, data: bytes) -> None:
        """Read one script. ``source``: its name in warnings."""
        text, doubt = decode(data)
        if doubt is not None:
            self._warn(Place(source), doubt)
        script = Script(text)
        adds = False
        for call in script.calls():
            self._place = Place(source, call.line)
            self._handle(call, script)
            adds |= call.procedure in self._procedures
        for doubt, line in script.doubts.items() if adds else ():
            self._warn(Place(source, line), doubt)
        if script.broken is not None:
            message = f"{script.broken}; the script was read up to here: complete it and import it again"
            self._warn(Place(source, script.broken.line), message)

    def finish(self) -> None:
        """Remark on schedules that no job uses."""
        used = {id(schedule) for job in self.agent.jobs for schedule in job.schedules}
        for schedule in self._schedules.listed:
            if id(schedule) not in used:
                message = f"the schedule '{schedule.name}' is used by no job in the scripts; script its jobs too"
                self._warn(schedule.place, message)

    def _handle(self, call: Call, script: Script) -> None:
        if call.problem is not None:
            self._warn(self._place, f"{call.problem}; it was left out, so write it out")
            return
        if call.procedure in self._procedures:
            if (missing := parameters.name_positional(call)) is not None:
                self._warn(self._place, missing)
                return
            self._procedures[call.procedure](call, script)
        elif call.procedure in REMEDIES:
            self._warn(self._place, f"{call.procedure} was left out: {REMEDIES[call.procedure]}")
        elif call.procedure not in IGNORED:
            self._warn(self._place, f"the procedure '{call.procedure}' is unknown; its call was left out")

    # Jobs and steps

    def _add_job(self, call: Call, script: Script) -> None:
        name = self._text(call, "job_name")
        if not name:
            self._warn(self._place, "sp_add_job has no @job_name that can be read; the job was left out")
            return
        job = Job(self._place, name)
        place = self._jobs.add(job)
        script.returns(call, "job_id", Handle("job", place))
        self._set_job(job, call)

    def _update_job(self, call: Call, script: Script) -> None:
        if (place := self._job_place(call)) is not None:
            job = self.agent.jobs[place]
            self._set_job(job, call)
            job.name = self._text(call, "new_name") or job.name
            self._jobs.named(place)

    def _set_job(self, job: Job, call: Call) -> None:
        self._set(job, call, parameters.JOB, job.name)

    def _add_step(self, call: Call, script: Script) -> None:
        if (job := self._job(call)) is None:
            return
        last = job.steps[-1].step_id if job.steps else 0
        step = Step(self._place, last + 1)
        self._set_step(step, call, job)
        at = len(job.steps) if step.step_id > last else _place_of(job, step.step_id)
        if job.steps[at : at + 1] and job.steps[at].step_id == step.step_id:
            _make_room(job, step.step_id)
        job.steps.insert(at, step)

    def _update_step(self, call: Call, script: Script) -> None:
        if (job := self._job(call)) is None:
            return
        wanted = call.arguments.get("step_id")
        at = _place_of(job, wanted) if isinstance(wanted, int) else len(job.steps)
        if at == len(job.steps) or job.steps[at].step_id != wanted:
            self._warn(self._place, "sp_update_jobstep names a step that the scripts do not add; add it first", job)
        else:
            self._set_step(job.steps[at], call, job)

    def _set_step(self, step: Step, call: Call, job: Job) -> None:
        self._set(step, call, parameters.STEP, job.name)
        if call.arguments.get("proxy_id") is not None:
            remedy = "set user, or choose workers by pool or labels"
            message = f"it runs as the proxy with the id {_shown(call.arguments['proxy_id'])}; {remedy}"
            self.agent.remarks.append(Remark(self._place, message, job.name, step.shown))

    def _add_server(self, call: Call, script: Script) -> None:
        if (job := self._job(call)) is not None and (server := self._text(call, "server_name")):
            job.servers.append(server)

    # Schedules

    def _add_job_schedule(self, call: Call, script: Script) -> None:
        if (job := self._job(call)) is not None:
            schedule = self._new_schedule(call, script, job)
            job.schedules.append(schedule)

    def _add_schedule(self, call: Call, script: Script) -> None:
        self._new_schedule(call, script, None)

    def _new_schedule(self, call: Call, script: Script, job: Job | None) -> Schedule:
        schedule = Schedule(self._place)
        self._set(schedule, call, parameters.SCHEDULE, _name(job))
        script.returns(call, "schedule_id", Handle("schedule", self._schedules.add(schedule)))
        return schedule

    def _update_schedule(self, call: Call, script: Script) -> None:
        if (place := self._schedule_place(call)) is not None:
            schedule = self._schedules.listed[place]
            self._set(schedule, call, parameters.SCHEDULE, None)
            schedule.name = self._text(call, "new_name") or schedule.name
            self._schedules.named(place)

    def _attach_schedule(self, call: Call, script: Script) -> None:
        job = self._job(call)
        if job is not None and (place := self._schedule_place(call, job)) is not None:
            schedule = self._schedules.listed[place]
            if not any(one is schedule for one in job.schedules):
                job.schedules.append(schedule)

    def _schedule_place(self, call: Call, job: Job | None = None) -> int | None:
        given = call.arguments.get("schedule_id")
        if isinstance(given, Handle) and given.kind == "schedule":
            return given.number
        name = self._text(call, "schedule_name") or self._text(call, "name")
        place = self._schedules.find(name) if name else None
        if place is None:
            shown = f"'{name}'" if name else f"with the id {_shown(given)}"
            message = f"the schedule {shown} is in none of the scripts; script it with the job, or give the job one"
            self._warn(self._place, message, job)
        return place

    # Operators

    def _add_operator(self, call: Call, script: Script) -> None:
        name = self._text(call, "name")
        if name:
            operator = self.agent.operators.setdefault(name.lower(), Operator(name))
            operator.email_address = self._text(call, "email_address") or operator.email_address
            operator.pager_address = self._text(call, "pager_address") or operator.pager_address
            if isinstance(enabled := call.arguments.get("enabled"), int):
                operator.enabled = enabled

    # Arguments

    def _job(self, call: Call) -> Job | None:
        place = self._job_place(call)
        return None if place is None else self.agent.jobs[place]

    def _job_place(self, call: Call) -> int | None:
        given, name = call.arguments.get("job_id"), call.arguments.get("job_name")
        if isinstance(given, Handle) and given.kind == "job":
            return given.number
        if isinstance(given, JobName):
            name = given.name
        if isinstance(name, str) and (place := self._jobs.find(name)) is not None:
            return place
        shown = f"'{name}'" if isinstance(name, str) else f"with the id {_shown(given)}"
        message = f"{call.procedure} is for the job {shown}, which no script before adds; script the job with it"
        self._warn(self._place, message)
        return None

    def _text(self, call: Call, parameter: str) -> str | None:
        value = call.arguments.get(parameter)
        return value if isinstance(value, str) else None

    def _set(self, target: Job | Step | Schedule, call: Call, names: dict[str, str], job: str | None) -> None:
        """Set the fields of a model from the arguments. ``names``: the field of each parameter."""
        kinds = {one.name: one.type for one in fields(target)}
        wrong = []
        for parameter, value in call.arguments.items():
            field = names.get(parameter)
            if field is None:
                if parameter not in parameters.SILENT:
                    wrong.append(f"{call.procedure} has no parameter @{parameter}; it was left out")
                continue
            read = _read(value, kinds[field] in ("int", int))
            if isinstance(read, Unknown):
                wrong.append(f"the value of @{parameter} ({read.what}) cannot be read; write it out in the script")
            elif read is not None:
                setattr(target, field, read)
        step = target.shown if isinstance(target, Step) else None
        self.agent.remarks += [Remark(self._place, message, job, step) for message in wrong]

    def _warn(self, place: Place, message: str, job: Job | None = None) -> None:
        self.agent.remarks.append(Remark(place, message, _name(job)))


def read_scripts(scripts: Iterator[tuple[str, bytes]]) -> Agent:
    """Read Agent's jobs from scripts, by their names in warnings."""
    reader = ScriptReader()
    for source, data in scripts:
        reader.read(source, data)
    reader.finish()
    return reader.agent


def _make_room(job: Job, step_id: int) -> None:
    """Give the steps from ``step_id`` on the next number, also where others go to them, as the server does."""
    for other in job.steps:
        other.step_id += other.step_id >= step_id
        other.on_success_step_id += other.on_success_step_id >= step_id
        other.on_fail_step_id += other.on_fail_step_id >= step_id


def _place_of(job: Job, step_id: int) -> int:
    """Return the place of a step among the steps of a job, which are in order, or where it belongs."""
    return bisect.bisect_left(job.steps, step_id, key=lambda one: one.step_id)


def _name(job: Job | None) -> str | None:
    return None if job is None else job.name


def _read(value: Value, number: bool) -> int | str | Unknown | None:
    """Return the value in the type of the field; None: the field keeps its default."""
    if isinstance(value, Handle | JobName):
        return Unknown("a job or schedule")
    if value is None or isinstance(value, Unknown):
        return value
    if not number:
        return str(value)
    try:
        return int(value)
    except ValueError:
        return Unknown(repr(value[:40]) if isinstance(value, str) else str(value))


def _shown(value: Value) -> str:
    if isinstance(value, Unknown):
        return value.what
    return "that is not given" if value is None else str(value)
