"""Write jobs with simple schedules as a crontab, with python-crontab."""

import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from crontab import CronTab

from jobfac.definitions import AnyJob, Job, Schedule
from jobfac.definitions.schedule import Times

PLAIN = ("calendar", "blackout", "starts", "ends", "jitter", "payload", "arguments")
"""Keys of a schedule that cron cannot express."""

ALWAYS = "*"


class NotSimple(ValueError):
    """A schedule cannot be written as a crontab. The message is a clause that says why."""


class Written(NamedTuple):
    """A crontab, and a sentence for each schedule that is not in it."""

    text: str
    left_out: list[str]


def to_crontab(jobs: Mapping[str, AnyJob], user: str | None = None) -> Written:
    """Return the crontab of a user, with the jobs that name this one; None: of the user whose worker runs, with those
    that name none.

    Lines are grouped by time zone below CRON_TZ, which cronie and newer crons support. Disabled ones are comments.
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
            table = zones.setdefault(schedule.timezone, CronTab(tab=""))
            for expression in lines:
                item = table.new(command=command, comment=name)
                item.setall(expression)
                item.enable(job.enabled and schedule.enabled)
    parts = [f"CRON_TZ={zone}\n{table.render().lstrip()}" for zone, table in sorted(zones.items())]
    return Written("\n".join(parts), left_out)


def _command(job: AnyJob, user: str | None) -> str:
    """Return the command for cron's shell. python-crontab escapes its percent signs."""
    if not isinstance(job, Job) or job.sql is not None:
        raise NotSimple("a sequence has no command" if not isinstance(job, Job) else "a script has no command")
    if job.user != user:
        who = f"'{job.user}'" if job.user else "the worker"
        raise NotSimple(f"it runs as {who}, and a user's crontab has one user")
    if secret := next((name for name, value in job.environment.items() if not isinstance(value, str)), None):
        raise NotSimple(f"its variable {secret} is a secret")
    words = shlex.join(job.arguments)
    command = f"{job.command[0]} {words}".strip() if job.shell else shlex.join([*job.command, *job.arguments])
    pairs = [f"{name}={value}" for name, value in job.environment.items() if isinstance(value, str)]
    if pairs:
        command = f"env {shlex.join(pairs)} {command if not job.shell else f'sh -c {shlex.quote(command)}'}"
    if job.directory:
        command = f"cd {shlex.quote(job.directory)} && {command}"
    if "\n" in command or "#" in command:
        raise NotSimple("its command has several lines or a #; put it into a script")
    return command


def _expressions(schedule: Schedule) -> Iterator[str]:
    """Yield the time fields of the lines: several lines if the times have different minutes."""
    if key := next((key for key in PLAIN if getattr(schedule, key)), None):
        raise NotSimple(f"cron has nothing like {key}")
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
    """Refuse L, # and ranges over all values, which python-crontab writes as ``*``. Cron treats that differently."""
    if any(letter in fields.upper() for letter in "L#W?") or {"0-59", "0-23", "1-31", "0-6", "0-7"} & set(
        fields.split()
    ):
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
