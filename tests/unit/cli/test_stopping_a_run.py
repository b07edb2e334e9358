"""What `jobfac stop` says of a stop whose end it does not see."""

from typing import Any, cast

import pytest

from jobfac.cli.client import Backend
from jobfac.cli.commands.duty.controlling import _stop_one
from jobfac.errors import Unreachable
from jobfac.states import RunState
from jobfac.store.runs import Stopped


class Leaving:
    """A database that goes away after it has taken the request."""

    def stop(self, run: int, now: bool) -> Stopped:
        return Stopped(RunState.RUNNING, RunState.STOPPING)

    def wait(self, run: int, seconds: float) -> Any:
        raise Unreachable("The database cannot be reached.")


def test_the_database_goes_away_while_a_stop_is_waited_for() -> None:
    with pytest.raises(Unreachable, match=r"reached\. Run 5 was asked to stop; `jobfac runs show 5` shows how it ends"):
        _stop_one(cast(Backend, Leaving()), 5, now=False, wait_for=1.0, as_json=False)
