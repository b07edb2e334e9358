"""Write jobs with simple schedules as a crontab, with python-crontab."""

import re
import shlex
from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from crontab import CronTab

from jobfac.definitions import AnyJob, Job, Schedule
from jobfac.definitions.parameters.placeholders import Context, fill, has_placeholder
from jobfac.definitions.schedule import Times

PLAIN = ("calendar", "blackout", "starts", "ends", "jitter", "payload", "arguments", "parameters")
"""Keys of a schedule that cron cannot express."""

LOST = (
    "already_running", "concurrency", "timeout", "silent_timeout", "retry", "limits", "output", "pool", "labels",
    "notify",
)  # fmt: skip
"""Keys of a job without which it is written, with a remark."""

_BROKEN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\%")
"""A percent sign after an odd number of backslashes. cron has no way to write that."""

ALWAYS = "*"


class NotSimple(ValueError):
    """A schedule cannot be written as a crontab. The message is a clause that says why."""


class Written(NamedTuple):
    """A crontab, and a sentence for each schedule that is not in it and for each job that has lost a part.

    ``zones``: the time zones of its lines.
    """

    text: str
    left_out: list[str]
    zones: list[str]


def to_crontab(jobs: Mapping[str, AnyJob], user: str | None = None, paused: Container[tuple[str, str]] = ()) -> Written:
    """Return the crontab of a user, with the jobs that name this one; None: of the user whose worker runs, with those
    that name none.

    Lines are grouped by time zone below CRON_TZ, which cronie supports and Debian's cron ignores. Disabled ones are
    comments, and those that are ``paused``, each given as its job and its name.
    """
    zones: dict[str, CronTab] = {}
    left_out = []
    for name, job in jobs.items():
        for label, schedule in zip(job.schedule_names(), job.schedules, strict=True):
            try:
                command = _command(job, user)
                lines = list(_expressions(schedule))
            except NotSimple as error:
                left_out.append(f"schedule '{label}' of job '{name}' is left out: {error}")
                continue
            if lost := _lost(job, schedule):
                left_out.append(f"job '{name}' is written without {', '.join(lost)}: cron has nothing like that")
            table = zones.setdefault(schedule.timezone, CronTab(tab=""))
            for expression in lines:
                item = table.new(command=command, comment=name)
                item.setall(expression)
                item.enable(job.enabled and schedule.enabled and (name, label) not in paused)
    parts = [f"CRON_TZ={zone}\n{table.render().lstrip()}" for zone, table in sorted(zones.items())]
    return Written("\n".join(parts), list(dict.fromkeys(left_out)), sorted(zones))


def _lost(job: AnyJob, schedule: Schedule) -> list[str]:
    """Return the keys that have no counterpart, and without which the command still does its work."""
    defaults = {key: field.get_default(call_default_factory=True) for key, field in type(job).model_fields.items()}
    lost = [key for key in LOST if getattr(job, key) != defaults[key]]
    return lost + ["missed"] * (schedule.missed.policy != "skip")


def _command(job: AnyJob, user: str | None) -> str:
    """Return the command for cron's shell. python-crontab escapes its percent signs."""
    if not isinstance(job, Job) or job.sql is not None:
        raise NotSimple("a sequence has no command" if not isinstance(job, Job) else "a script has no command")
    if job.user != user:
        who = f"'{job.user}'" if job.user else "the worker"
        raise NotSimple(f"it runs as {who}, and a user's crontab has one user")
    if secret := next((name for name, value in job.environment.items() if not isinstance(value, str)), None):
        raise NotSimple(f"its variable {secret} is a secret")
    if job.each_worker:
        raise NotSimple("it runs on each worker, and a crontab belongs to one machine")
    environment = {name: value for name, value in job.environment.items() if isinstance(value, str)}
    texts = [*job.command, *job.arguments, *environment.values(), job.directory or ""]
    if job.parameters or any(map(has_placeholder, texts)):
        raise NotSimple("it has parameters or placeholders, which cron does not fill in")
    words = [_plain(text) for text in (*job.command, *job.arguments)]
    command = _in_shell(words, bool(environment)) if job.shell else shlex.join(words)
    if environment:
        command = f"env {shlex.join(f'{name}={_plain(value)}' for name, value in environment.items())} {command}"
    if job.directory:
        lists = job.shell and re.search(r"[;&|()]", command)  # `cd` must guard all of them
        command = f"cd {shlex.quote(_plain(job.directory))} && {_in_shell([command], lists is not None)}"
    if "\n" in command or "#" in command:
        raise NotSimple("its command has several lines or a #; put it into a script")
    if _BROKEN_ESCAPE.search(command):
        raise NotSimple("its command has a backslash before a %; put it into a script")
    return command


def _plain(text: str) -> str:
    """Return a text without placeholders as the program gets it, with ``$${due.date}`` as ``${due.date}``."""
    return fill(text, Context(due=datetime.min))


def _in_shell(words: list[str], own: bool) -> str:
    """Return the command of a shell. ``own``: in a shell of its own, which words after the first need, too."""
    if len(words) > 1:
        return shlex.join(["/bin/sh", "-c", words[0], "sh", *words[1:]])
    return shlex.join(["/bin/sh", "-c", words[0]]) if own else words[0]


def _expressions(schedule: Schedule) -> Iterator[str]:
    """Yield the time fields of the lines: several lines if the times have different minutes."""
    if key := next((key for key in PLAIN if getattr(schedule, key)), None):
        raise NotSimple(f"cron has nothing like {key}")
    if (schedule.gap, schedule.overlap) != ("shift", "first"):
        raise NotSimple("cron has nothing like gap and overlap")
    if schedule.cron_fields is not None:
        _check_ranges(schedule.cron_fields)
        yield schedule.cron_fields
        return
    if schedule.times is None:
        raise NotSimple("cron has no intervals of real time and no single dates")
    days = _days(schedule)
    for minute, hour in _times(schedule.times, schedule.timezone):
        yield f"{minute} {hour} {days}"


def _check_ranges(fields: str) -> None:
    """Refuse L, # and ranges that python-crontab writes with a ``*``. Cron treats such days differently."""
    is_refused = any(letter in fields.upper() for letter in "L#W?")
    if not is_refused:
        written = CronTab(tab="").new(command="true")
        written.setall(fields)
        pairs = zip(fields.split(), written.slices, strict=True)
        is_refused = any(part.render().startswith(ALWAYS) != field.startswith(ALWAYS) for field, part in pairs)
    if is_refused:
        raise NotSimple(f"'{fields}' cannot be written so that it means the same")


def _days(schedule: Schedule) -> str:
    dates = schedule.dates
    if dates is None:
        return "* * *"
    if dates.on or dates.between or dates.nth or dates.every or "last" in dates.days_of_month:
        raise NotSimple("cron cannot name these days")
    weekdays = {tuple(dates.weekdays): None, ("weekday",): "1-5", ("weekend",): "0,6", (): None}[tuple(dates.weekdays)]
    if dates.weekdays and weekdays is None:
        raise NotSimple("cron cannot name these days")
    if dates.days_of_week and weekdays is None:
        weekdays = ",".join(str(day % 7) for day in dates.days_of_week)
    elif dates.days_of_week:
        raise NotSimple("cron cannot name these days")
    if dates.days_of_month and weekdays:
        raise NotSimple("cron takes either of a day of the month and a day of the week, not both")
    return f"{','.join(map(str, dates.days_of_month)) or ALWAYS} * {weekdays or ALWAYS}"


def _times(times: Times, zone: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of minute and hour."""
    if times.between:
        raise NotSimple("cron has nothing like between")
    if times.at:
        if any(clock.second for clock in times.at):
            raise NotSimple("cron knows no seconds")
        for minute in sorted({clock.minute for clock in times.at}):
            yield str(minute), ",".join(str(clock.hour) for clock in sorted(times.at) if clock.minute == minute)
    elif times.every:
        yield _interval(int(times.every), zone)
    else:
        yield ",".join(map(str, times.minutes or (0,))), ",".join(map(str, times.hours)) or ALWAYS


def _interval(seconds: int, zone: str) -> tuple[str, str]:
    """Return the fields of an interval. Cron counts from midnight by the clock, so intervals of hours need UTC."""
    minutes, rest = divmod(seconds, 60)
    hours = minutes // 60
    if not rest and minutes < 60 and 60 % minutes == 0:
        return (ALWAYS if minutes == 1 else f"*/{minutes}"), ALWAYS
    if not rest and minutes % 60 == 0 and 24 % hours == 0 and (hours in (1, 24) or zone == "UTC"):
        return "0", (ALWAYS if hours == 1 else "0" if hours == 24 else f"*/{hours}")
    raise NotSimple("cron has no such interval")
