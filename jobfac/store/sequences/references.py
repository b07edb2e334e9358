"""References in arguments and payloads to what earlier jobs reported: ``${steps.STEP.JOB.outputs.KEY}``.

A text becomes itself, anything else its JSON. What is not of this form is left as it is.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jobfac.definitions import Sequence as Definition

Outputs = Callable[[str, str], Mapping[str, Any] | None]
"""What the job of a step reported when it was last run in it, by step and job; None: it has not ended in it yet."""

_REFERENCE = re.compile(r"\$\{(steps\.[^{}]*)\}")


class UnknownReference(Exception):
    """A reference to nothing; the text names it and says what is missing."""


def fill(text: str, sequence: Definition, outputs: Outputs) -> str:
    """The text with every reference replaced.

    Raises:
        UnknownReference: there is no such step, job or output.
    """

    def value(match: re.Match[str]) -> str:
        step, job, key = _parse(match[1], sequence)
        found = outputs(step, job)
        if found is None:
            raise UnknownReference(f"${{{match[1]}}} is unknown: job '{job}' of step '{step}' has not ended before")
        if key not in found:
            known = f"only {', '.join(map(repr, found))}" if found else "nothing"
            raise UnknownReference(f"${{{match[1]}}} is unknown: job '{job}' of step '{step}' reported {known}")
        return found[key] if isinstance(found[key], str) else json.dumps(found[key], ensure_ascii=False)

    return _REFERENCE.sub(value, text)


def _parse(reference: str, sequence: Definition) -> tuple[str, str, str]:
    """Step, job and key. Their names may contain dots, so they are found by what there is, not by splitting."""
    for step, job in _places(sequence):
        head = f"steps.{step}.{job}.outputs."
        if reference.startswith(head) and len(reference) > len(head):
            return step, job, reference[len(head) :]
    raise UnknownReference(f"${{{reference}}} is unknown: it must be steps.STEP.JOB.outputs.KEY, of a step and its job")


def _places(sequence: Definition) -> Iterable[tuple[str, str]]:
    return ((step.name, job) for step in sequence.steps for job in step.jobs)
