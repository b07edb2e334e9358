"""When a run takes long: after a fixed time, or after so many times what its job usually takes."""

from typing import NamedTuple

from jobfac.definitions import Usual, write_duration


class LongWarning(NamedTuple):
    """``after``: seconds until the run is reported as running long; None: never. ``sentence``: what is reported."""

    after: float | None
    sentence: str = ""


def warning_of(warn_after: "float | Usual | None", usual: float | None) -> LongWarning:
    """Return the warning of a run.

    Args:
        usual: what the job usually takes, in seconds; None: it has not succeeded yet, so nothing is unusual.
    """
    if warn_after is None:
        return LongWarning(None)
    if not isinstance(warn_after, Usual):
        return LongWarning(warn_after, f"still running after {write_duration(warn_after)}")
    if usual is None:
        return LongWarning(None)
    after = max(warn_after.least, round(warn_after.usual * usual, 3))
    return LongWarning(after, f"still running after {write_duration(after)}; it usually takes {write_duration(usual)}")
