"""Things of a script in the order in which they were added, which are found by their names."""

import bisect
from typing import Generic, Protocol, TypeVar


class HasName(Protocol):
    """Something with a name, which may change."""

    name: str


T = TypeVar("T", bound=HasName)


class Named(Generic[T]):
    """Things by their names, without regard to case. Of those with the same name the last one counts."""

    def __init__(self, listed: list[T]) -> None:
        """``listed``: an empty list, to which ``add`` appends."""
        self.listed = listed
        self._places: dict[str, list[int]] = {}

    def add(self, one: T) -> int:
        """Append a thing; returns its place."""
        self.listed.append(one)
        self.named(len(self.listed) - 1)
        return len(self.listed) - 1

    def named(self, place: int) -> None:
        """Notice that the thing at this place may have another name."""
        places = self._places.setdefault(self.listed[place].name.lower(), [])
        if place not in places[-1:]:
            bisect.insort(places, place)

    def find(self, name: str) -> int | None:
        """Return the place of the last thing that has this name now."""
        places = self._places.get(name.lower(), [])
        return next((place for place in reversed(places) if self.listed[place].name.lower() == name.lower()), None)
