"""Render a message as subject, plain text and HTML, from replaceable templates.

A template is a ``string.Template``. ``$job`` or ``${job}`` is a key of the message's body; there are also ``$id``,
the notification's; ``$run``, the run's id; ``$about``, which names job and run; ``$summary``, a sentence; ``$facts``,
the known facts, in lines or in rows of a table; ``$output``, the end of the output. ``$$`` is a dollar sign.
"""

import html
import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from jobfac.channels.message import DeliveryError, Message
from jobfac.views.jobs import OverdueView
from jobfac.views.runs import RunView

SENTENCES = {
    "started": "$job has started",
    "succeeded": "$job succeeded",
    "mixed": "$job ended mixed: some of its jobs succeeded and some did not",
    "failed": "$job failed",
    "timed_out": "$job ran out of time",
    "stopped": "$job was stopped",
    "start_failed": "$job could not be started",
    "lost": "$job was lost with its worker",
    "denied": "$job was denied",
    "recovered": "$job succeeded again",
    "running_long": "$job is running long",
    "retry": "$job failed and is tried again",
    "missed": "$job missed its time",
    "overdue": "$job is overdue",
    "on_time_again": "$job is on time again",
    "paused": "$job has failed too often, its schedules are paused",
    "held": "$job is held",
    "approval_wanted": "$job waits for an approval",
}

FACTS = (
    "state", "attempt", "worker", "exit_code", "signal", "reason", "exit_message", "progress", "message", "detail",
    "created_at", "started_at", "ended_at", "schedule", "schedule_id", "due_at", "since", "until", "sequence_run_id",
    "origin", "link",
)  # fmt: skip
"""Keys of the body to show, in this order. Empty values are omitted."""

NAMES = (
    *RunView._fields, *OverdueView._fields, *FACTS, "event", "failures", "hold", "schedules",
)  # fmt: skip
"""The keys that the body of some event has. One template serves all events: what an event does not have is empty."""

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def subject(message: Message, folder: str) -> str:
    """Return the subject as one line."""
    return " ".join(_render(folder, "subject.txt", _values(message, str, _lines)).split())


def text(message: Message, folder: str) -> str:
    """Return the message as plain text."""
    said = _render(folder, "body.txt", _values(message, str, _lines))
    # Mail servers refuse some control characters, after they have taken the mail.
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", said).strip() + "\n"


def page(message: Message, folder: str) -> str:
    """Return the message as HTML. Everything that comes from the run is escaped."""
    return _render(folder, "body.html", _values(message, html.escape, _rows))


def summary(message: Message) -> str:
    """Return one sentence that says what happened."""
    sentence = Template(SENTENCES[message.event]).substitute(job=message.body.get("job"))
    why = message.body.get("reason") or message.body.get("detail")
    return f"{sentence}: {why}" if why else sentence


def _values(
    message: Message, escape: Callable[[str], str], facts: Callable[[Mapping[str, str]], str]
) -> dict[str, str]:
    body = {key: escape(_word(value)) for key, value in message.body.items()}
    known = {key: body[key] for key in FACTS if body.get(key)}
    if known.get("detail") == known.get("reason"):
        known.pop("detail", None)
    return {
        **dict.fromkeys(NAMES, ""),
        **body,
        "id": escape(message.id),
        "run": body.get("id", ""),
        "about": f"job {body.get('job')}" + (f", run {body['id']}" if body.get("id") else ""),
        "summary": escape(summary(message)),
        "facts": facts(known),
        "output": escape(message.output),
    }


def _word(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts), default=0)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in facts.items())


def _rows(facts: Mapping[str, str]) -> str:
    return "\n".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in facts.items())


def _render(folder: str, name: str, values: Mapping[str, str]) -> str:
    own = Path(folder) / name if folder else None
    try:
        if own is not None and own.exists():
            template = own.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        else:
            template = (files("jobfac.channels") / "templates" / name).read_text(encoding="utf-8")
        return Template(template).substitute(values)
    except KeyError as error:
        known = ", ".join(f"${key}" for key in sorted(values))
        raise DeliveryError(f"the template {own or name} has ${error.args[0]}; it may have {known}") from None
    except (OSError, ValueError) as error:
        raise DeliveryError(f"the template {own or name} cannot be used: {error}") from None
