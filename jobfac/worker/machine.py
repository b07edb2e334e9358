"""A state machine: one state, and a table of the moves that are legal."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

State = TypeVar("State", bound=StrEnum)


class IllegalMove(Exception):
    """The table has no such move; it is a defect of the code that asked for it."""


class Machine(Generic[State]):
    """Holds one state. One thread moves it; any thread may read it.

    Attributes:
        state: the present state.
    """

    def __init__(self, first: State, moves: Mapping[State, frozenset[State]]) -> None:
        self.state = first
        self._moves = moves

    def move(self, after: State) -> None:
        """Go to ``after``; nothing happens if that is the present state.

        Raises:
            IllegalMove: the table has no such move.
        """
        if after == self.state:
            return
        if after not in self._moves[self.state]:
            raise IllegalMove(f"no move leads from '{self.state}' to '{after}'")
        self.state = after
