"""A state machine: one state and a table of legal moves."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

State = TypeVar("State", bound=StrEnum)


class IllegalMove(Exception):
    """The table does not contain this move. The calling code has a bug."""


class Machine(Generic[State]):
    """Holds one state. One thread changes it; any thread may read it.

    Attributes:
        state: the current state.
    """

    def __init__(self, first: State, moves: Mapping[State, frozenset[State]]) -> None:
        self.state = first
        self._moves = moves

    def move(self, after: State) -> None:
        """Change the state to ``after``. Does nothing if that is the current state.

        Raises:
            IllegalMove: the table does not contain this move.
        """
        if after == self.state:
            return
        if after not in self._moves[self.state]:
            raise IllegalMove(f"no move leads from '{self.state}' to '{after}'")
        self.state = after
