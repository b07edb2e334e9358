"""`up` waits for its roles."""

import threading
from types import SimpleNamespace
from typing import Any

from jobfac.cli.commands import roles


def test_a_role_that_could_not_begin_is_not_waited_for() -> None:
    """Its start failed, and the other one ends meanwhile."""
    answers = iter([True])
    ending: Any = SimpleNamespace(is_alive=lambda: next(answers, False), join=lambda seconds: None)
    api: Any = SimpleNamespace(is_stuck=False)
    roles._join([ending, threading.Thread()], api)
