"""Compute whether and when a failed run is retried. Pure functions."""

import contextlib

from jobfac.definitions import Retry
from jobfac.states import RunState


def retry_delay(policy: Retry, state: RunState, failures: int, chance: float) -> float | None:
    """Return the seconds until the next attempt of a run that ended in ``state``; None: no retry.

    ``failures`` is the number of earlier failures.

    ``attempts`` counts every execution, the first included; executions lost to a worker's death do not count.
    ``chance`` is a random number from 0 to 1, which moves the delay by up to ``jitter`` of it, up or down.
    """
    if state not in policy.on or failures + 1 >= policy.attempts:
        return None
    delay = policy.maximum_delay
    with contextlib.suppress(OverflowError):
        delay = min(policy.delay * policy.backoff**failures, policy.maximum_delay)
    return max(0.0, delay * (1 + policy.jitter * (2 * chance - 1)))
