"""Definitions of jobs and sequences: read, check, write and compare them. Pure, except for reading files.

``load``, ``loads`` and ``from_data`` read and check, ``dump`` writes YAML. ``canonical`` returns the form that is
stored, ``from_canonical`` and ``from_stored`` read it. ``plan`` compares stored and wanted definitions.
"""

from jobfac.definitions.execution.policies import Retention, Retry
from jobfac.definitions.execution.watching import Usual
from jobfac.definitions.models import AnyJob, Defaults, Job, Sequence, canonical
from jobfac.definitions.notify import Notify, Recipient, Secret
from jobfac.definitions.parameters import Parameter
from jobfac.definitions.parse import (
    Definitions,
    dump,
    from_canonical,
    from_data,
    from_stored,
    load,
    loads,
    read_notify,
    read_texts,
    reader,
    stored_body,
    stored_defaults,
    text_reader,
)
from jobfac.definitions.plan import Difference, Plan, losses, plan
from jobfac.definitions.problems import DefinitionError, Problem
from jobfac.definitions.schedule import Schedule
from jobfac.definitions.steps import Go, Step
from jobfac.definitions.values import read_duration, write_duration, write_size

__all__ = [
    "AnyJob", "Defaults", "DefinitionError", "Definitions", "Difference", "Go", "Job", "Notify", "Parameter", "Plan",
    "Problem", "Recipient", "Retention", "Retry", "Schedule", "Secret", "Sequence", "Step", "Usual", "canonical",
    "dump", "from_canonical", "from_data", "from_stored", "load", "loads", "losses", "plan", "read_duration",
    "read_notify", "read_texts", "reader", "stored_body", "stored_defaults", "text_reader", "write_duration",
    "write_size",
]  # fmt: skip
