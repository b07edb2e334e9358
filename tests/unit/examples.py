"""How many examples a property test draws."""

from hypothesis import settings


def examples(number: int) -> int:
    """Return the number for `make fuzz`. The suite draws half of it, because it draws the same ones each time."""
    profile = settings.default
    return number // 2 if profile is not None and profile.derandomize else number
