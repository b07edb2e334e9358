"""References in arguments and payloads to the outputs of earlier jobs: ``${steps.STEP.JOB.outputs.KEY}``.

A reference to a text is replaced with the text, and a reference to any other value with its JSON. Text that does not
have this form stays unchanged.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jobfac.definitions import Sequence as Definition

Outputs = Callable[[str, str], Mapping[str, Any] | None]
"""Returns the outputs of the last run of a job in a step, by step and job; None: the job has not ended there yet."""

_REFERENCE = re.compile(r"\$\{(steps\.[^{}]*)\}")


class UnknownReference(Exception):
    """A reference that cannot be resolved. The message names the reference and says what is missing."""


def fill(text: str, sequence: Definition, outputs: Outputs) -> str:
    """Return the text with every reference replaced.

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
    """Return step, job and key. Names may contain dots, so they are matched with known names, not split."""
    for step, job in _places(sequence):
        head = f"steps.{step}.{job}.outputs."
        if reference.startswith(head) and len(reference) > len(head):
            return step, job, reference[len(head) :]
    raise UnknownReference(f"${{{reference}}} is unknown: it must be steps.STEP.JOB.outputs.KEY, of a step and its job")


def _places(sequence: Definition) -> Iterable[tuple[str, str]]:
    return ((step.name, job) for step in sequence.steps for job in step.jobs)
