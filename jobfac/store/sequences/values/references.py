"""References to the outputs of earlier jobs, ``${steps.STEP.JOB.outputs.KEY}``, and to what an approver gave.

What the approver of a step gave for a parameter is ``${steps.STEP.outputs.NAME}``.

A reference to a text is replaced with the text, and a reference to any other value with its JSON. Text that does not
have this form stays unchanged.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jobfac.definitions import Sequence as Definition
from jobfac.definitions import parameters
from jobfac.definitions.parameters import Context

Outputs = Callable[[str, str | None], Mapping[str, Any] | None]
"""Returns the outputs of the last run of a job in a step, by step and job; None: the job has not ended there yet.

Without a job: what the approver of the step gave."""

LONGEST = 4 * 1024 * 1024
"""Characters at most that references add to the texts of one start: as many as a payload may have. An operator may
repeat a reference in a payload, and a job may report a long output."""

_REFERENCE = re.compile(r"\$\{(steps\.[^{}]*)\}")


class UnknownReference(Exception):
    """A reference that cannot be resolved. The message names the reference and says what is missing.

    ``job``: whose outputs the message lists; None: it lists none. ``brief``: the message without the list.
    """

    def __init__(self, message: str, job: str | None = None, brief: str = "") -> None:
        super().__init__(message)
        self.job = job
        self.brief = brief or message


class Room:
    """How many characters references may still add to the texts of one start.

    ``known``: the texts of references that were replaced before, since a text may hold very many.
    """

    def __init__(self, left: int = LONGEST) -> None:
        self._left = left
        self.known: dict[str, str] = {}

    def take(self, text: str) -> str:
        """Return the text, and count it.

        Raises:
            UnknownReference: the texts would be too long.
        """
        self._left -= len(text)
        if self._left < 0:
            raise UnknownReference(f"its references stand for more than {LONGEST:,} characters; pass a file's name")
        return text


def fill(
    text: str, sequence: Definition, outputs: Outputs, context: Context | None = None, room: Room | None = None
) -> str:
    """Return the text with every reference replaced, in one pass: a value that looks like a reference stays as it is.

    Args:
        context: the values of the sequence's placeholders; None: the text is the caller's, who may not use them.
        room: how long the values may be; None: ``LONGEST`` characters in this text.

    Raises:
        UnknownReference: there is no such step, job or output, or the values are too long.
    """
    room = room or Room()

    def value(match: re.Match[str]) -> str:
        if (known := room.known.get(match[1])) is None:
            found = _value(match[1], sequence, outputs)
            known = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
            room.known[match[1]] = known
        return room.take(known)

    if context is None:
        return _REFERENCE.sub(value, text)
    pieces: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        pieces += [parameters.fill(text[end : match.start()], context), value(match)]
        end = match.end()
    return "".join([*pieces, parameters.fill(text[end:], context)])


def _value(reference: str, sequence: Definition, outputs: Outputs) -> Any:
    step, job, key = _parse(reference, sequence)
    found = outputs(step, job)
    if job is None:
        if found is None or key not in found:
            raise UnknownReference(
                f"${{{reference}}} is unknown: nobody has approved the step '{step}' before (its last visit counts)"
            )
        return found[key]
    if found is None:
        raise UnknownReference(
            f"${{{reference}}} is unknown: job '{job}' of step '{step}' has not ended before (its last visit counts), "
            "or its run was purged"
        )
    if key not in found:
        known = f"only {', '.join(map(repr, found))}" if found else "nothing"
        begin = f"${{{reference}}} is unknown: job '{job}' of step '{step}' reported"
        raise UnknownReference(f"{begin} {known}", job, f"{begin} no such output")
    return found[key]


def fill_typed(value: Any, sequence: Definition, outputs: Outputs, context: Context) -> Any:
    """Return a value of a step's parameters. A text that is one reference keeps the type of what it refers to.

    Raises:
        UnknownReference, UnresolvedError: as ``fill``.
    """
    if isinstance(value, list | tuple):
        return [fill_typed(one, sequence, outputs, context) for one in value]
    if not isinstance(value, str):
        return value
    if (placeholder := parameters.whole(value)) is not None:
        return parameters.resolve(placeholder, context)
    if (match := _REFERENCE.fullmatch(value)) is not None:
        return _value(match[1], sequence, outputs)
    return fill(value, sequence, outputs, context)


def _parse(reference: str, sequence: Definition) -> tuple[str, str | None, str]:
    """Return step, job and key. Names may contain dots, so they are matched with known names, not split.

    The job is None if the reference is to what an approver gave.
    """
    for step, job in _places(sequence):
        head = f"steps.{step}.{job}.outputs."
        if reference.startswith(head) and len(reference) > len(head):
            return step, job, reference[len(head) :]
    for asking in sequence.steps:
        head = f"steps.{asking.name}.outputs."
        if asking.approve is not None and reference.removeprefix(head) in asking.approve.parameters:
            return asking.name, None, reference.removeprefix(head)
    raise UnknownReference(f"${{{reference}}} is unknown: it must be steps.STEP.JOB.outputs.KEY, of a step and its job")


def _places(sequence: Definition) -> Iterable[tuple[str, str]]:
    return ((step.name, job) for step in sequence.steps for job in step.jobs)
