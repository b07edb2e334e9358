"""A schedule's rule in words, as a person would write it: `Mon-Fri 06:30 Europe/Berlin`. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jobfac.definitions.schedule import CRON_NAMES
from jobfac.definitions.triggers.arrival import STABLE
from jobfac.definitions.values import write_duration

STABLE_FOR = write_duration(STABLE)
DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def in_words(rule: Mapping[str, Any]) -> str:
    """Return a rule in words. ``rule``: a schedule in its canonical form, as definitions store it."""
    zone = rule.get("timezone", "UTC")
    if "after" in rule:
        return _after(rule)
    if "file" in rule:
        pool = f", in pool {rule['pool']}" if "pool" in rule else ""
        return f"file {rule['file']}, stable for {rule.get('stable', STABLE_FOR)}{pool}"
    if "cron" in rule:
        parts = [_cron(CRON_NAMES.get(rule["cron"], rule["cron"])), zone]
    elif "every" in rule:
        parts = [f"every {rule['every']}"]
    elif "at" in rule:
        text = str(rule["at"])
        parts = [f"once at {text}".replace("T", " "), "" if datetime.fromisoformat(text).tzinfo else zone]
    elif "times" in rule:
        parts = [_dates(rule.get("dates") or {}), _times(rule["times"]), zone]
    else:
        return _unknown(rule)
    return ", ".join([" ".join(filter(None, parts)), *_limits(rule)])


def _after(rule: Mapping[str, Any]) -> str:
    """Return the jobs after which a rule starts a run. Several are joined by `and` if all of them must have ended."""
    after = rule["after"]
    upstream = [after] if "job" in after else after.get("all") or after["any"]
    words = [f"{one['job']} ({_list(one['on'])})" if "on" in one else str(one["job"]) for one in upstream]
    text = (" and " if "all" in after else " or ").join(words)
    return f"after {text}, within {rule['within']}" if "within" in rule else f"after {text}"


def _unknown(rule: Mapping[str, Any]) -> str:
    forms = {key: value for key, value in rule.items() if key not in ("payload", "arguments", "payloads", "name")}
    return ", ".join(f"{key} {_list(value)}" for key, value in forms.items())


def _limits(rule: Mapping[str, Any]) -> list[str]:
    found = []
    if "between" in rule:
        found.append(f"between {_list(rule['between'])}")
    if "starts" in rule:
        found.append(f"from {rule['starts']}")
    if "ends" in rule:
        found.append(f"until {rule['ends']}")
    if calendar := rule.get("calendar"):
        move = calendar.get("on_holiday", "skip")
        days = _list(calendar.get("holidays") or "own dates")
        found.append(f"not on holidays ({days})" if move == "skip" else f"on holidays ({days}) the {move} working day")
    if rule.get("blackout"):
        found.append(f"not {_list(rule['blackout'])}")
    return found


def _list(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _dates(dates: Mapping[str, Any]) -> str:
    parts = []
    if "days_of_week" in dates:
        parts.append(", ".join(str(day).capitalize() for day in _many(dates["days_of_week"])))
    if "days_of_month" in dates:
        parts.append("on " + ", ".join(_day(day) for day in _many(dates["days_of_month"])))
    if "weekdays" in dates:
        words = {"weekday": "Mon-Fri", "weekend": "Sat, Sun", "first": "first weekday", "last": "last weekday"}
        parts.append(", ".join(words[word] for word in _many(dates["weekdays"])))
    parts += [f"on {_list(dates['on'])}"] if "on" in dates else []
    parts += [f"in {_list(dates['between'])}"] if "between" in dates else []
    rest = {key: value for key, value in dates.items() if key not in _DATES}
    parts += [f"{key} {_list(value)}" for key, value in rest.items()]
    return " and ".join(parts) or "daily"


_DATES = ("days_of_week", "days_of_month", "weekdays", "on", "between")


def _many(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _day(day: Any) -> str:
    if day in ("first", "last"):
        return f"the {day} day"
    number = int(day)
    end = "th" if 10 < number < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"the {number}{end}"


def _times(times: Mapping[str, Any]) -> str:
    if "at" in times:
        text = ", ".join(_FULL_MINUTE.sub(r"\1", str(clock)) for clock in _many(times["at"]))
    elif "every" in times:
        text = f"every {times['every']}"
    else:
        minutes = ", ".join(f":{int(minute):02}" for minute in _many(times.get("minutes", 0)))
        hours = ", ".join(f"{int(hour):02}" for hour in _many(times["hours"])) if "hours" in times else "every hour"
        text = f"{hours} at {minutes}"
    return f"{text}, {_list(times['between'])}" if "between" in times else text


_FULL_MINUTE = re.compile(r"(\d+:\d+):00")
_STEP = re.compile(r"\*/(\d+)")


def _cron(line: str) -> str:
    """Return the five fields in words, or as they are where words would be longer."""
    minute, hour, day, month, weekday = line.split()
    times = _clock(minute, hour)
    days = _days(day, month, weekday)
    if times is None or days is None:
        return f"cron {line}"
    return times if days == "daily" and not times[0].isdigit() else f"{days} {times}"


def _clock(minute: str, hour: str) -> str | None:
    """Return the times of day in words; None: they are not simple."""
    span = "" if hour == "*" else _span(hour)
    if minute.isdigit() and all(part.isdigit() for part in hour.split(",")):
        return ", ".join(f"{int(part):02}:{int(minute):02}" for part in hour.split(","))
    if span is not None and minute == "*":
        return f"every minute{span}"
    if span is not None and (step := _STEP.fullmatch(minute)) and 60 % max(1, int(step[1])) == 0:
        return f"every {step[1]}m{span}"
    if span is not None and all(part.isdigit() for part in minute.split(",")):
        return "hourly at " + ", ".join(f":{int(part):02}" for part in minute.split(",")) + span
    if minute.isdigit() and (step := _STEP.fullmatch(hour)) and 24 % max(1, int(step[1])) == 0:
        return f"every {step[1]}h at :{int(minute):02}"
    return None


def _span(hour: str) -> str | None:
    """Return a range of hours in words; None: it is something else."""
    found = re.fullmatch(r"(\d+)-(\d+)", hour)
    return None if found is None else f" {int(found[1]):02}:00-{int(found[2]):02}:59"


def _days(day: str, month: str, weekday: str) -> str | None:
    """Return the days in words; None: they are not simple."""
    if day != "*" and weekday != "*":
        return None  # cron combines them in a way that no short phrase says
    months = "" if month == "*" else _names(month, MONTHS)
    if months is None:
        return None
    if weekday != "*":
        names = _names(weekday, DAYS)
        return None if names is None else f"{names}{f' of {months}' if months else ''}"
    if day == "*":
        return f"daily in {months}" if months else "daily"
    if not re.fullmatch(r"\d+(,\d+)*", day):
        return None
    words = ", ".join(_day(part) for part in day.split(","))
    return f"on {words}{f' of {months}' if months else ''}"


def _names(field: str, names: Sequence[str]) -> str | None:
    """Return the numbers or names of a field as names; None: it has steps."""
    if not re.fullmatch(r"[A-Za-z0-9,-]+", field):
        return None
    return re.sub(r"\d+|[A-Za-z]+", lambda part: _name(part[0], names), field).replace(",", ", ")


def _name(word: str, names: Sequence[str]) -> str:
    return names[int(word)] if word.isdigit() and int(word) < len(names) else word.capitalize()
