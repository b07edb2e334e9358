r"""Fault injection: a script of rules, one per line, that define the faults and when they occur.

    error 1205 matching "UPDATE next" every 50     every 50th such statement fails with error 1205
    stall 2.5 matching "heartbeat" at 1            the answer to the first such statement is 2.5 s late
    silence 30 matching "heartbeat" at 1           the same, and cancel requests are not answered meanwhile
    drop before commit at 10                       cut the connection before the 10th commit, which is lost
    drop after commit every 20                     cut the connection after every 20th commit: only the answer is lost
    drop after matching "OUTPUT inserted" at 3     execute the 3rd such statement, then cut the connection
    error 40613 login first 5                      the first 5 logins fail
    kill matching "WAITFOR" at 1                   end the session as KILL does: the answer says that it failed, not why
    failover 3 at 200                              at the 200th statement, cut all connections; refuse logins for 3 s

A rule has four parts. The action: ``error NUMBER``, ``stall SECONDS``, ``silence SECONDS``, ``drop before``, ``drop
after``, ``kill`` or ``failover SECONDS``. The event: ``login``, ``commit``, ``matching "a regular expression"`` (a
statement whose text matches) or nothing (any statement). The program: ``by "program"`` or nothing (all programs). The
frequency: ``at N``, ``every N``, ``first N``, ``chance P`` or ``always`` (the default). Each rule counts only its own
events. Errors that roll back on SQL Server roll back here.

An error affects only requests that can fail on SQL Server. It does not affect the begin or rollback of a transaction,
nor the release of a prepared statement: these wait for no lock, so the drivers never report errors of them.
"""

import random
import re
import shlex
from dataclasses import dataclass
from typing import NamedTuple

LOGIN, COMMIT, STATEMENT, CONTROL = "login", "commit", "statement", "control"


class Event(NamedTuple):
    """A request. ``kind`` is LOGIN, COMMIT, STATEMENT or CONTROL; a CONTROL request reads and writes no data."""

    kind: str
    text: str
    program: str


@dataclass
class Rule:
    """One line of a script.

    ``action``: error, stall, silence, drop before, drop after, kill or failover. ``value``: the number of the action.
    """

    line: str
    action: str
    value: float = 0
    kind: str = STATEMENT
    pattern: str = ""
    program: str = ""
    when: str = "always"
    number: float = 0
    seen: int = 0
    fired: int = 0

    def applies_to(self, event: Event, chance: random.Random) -> bool:
        """Count the event; returns whether this rule applies to it."""
        if not self._is_for(event.kind) or (self.program and self.program not in event.program):
            return False
        if self.pattern and not re.search(self.pattern, event.text, re.IGNORECASE | re.DOTALL):
            return False
        self.seen += 1
        match self.when:
            case "at":
                matching = self.seen == self.number
            case "every":
                matching = self.seen % self.number == 0
            case "first":
                matching = self.seen <= self.number
            case "chance":
                matching = chance.random() < self.number
            case _:
                matching = True
        self.fired += matching
        return matching

    def _is_for(self, kind: str) -> bool:
        return kind == self.kind or (kind == CONTROL and self.kind == STATEMENT and self.action != "error")


def parse_rule(line: str) -> Rule:
    """Parse one rule. Raises ValueError, which names the invalid word."""
    words = shlex.split(line)
    action = words.pop(0) if words else ""
    rule = Rule(line, action)
    if action == "drop":
        rule.action = f"drop {_word(words, line, 'before', 'after')}"
    elif action == "kill":
        pass
    elif action in ("error", "stall", "silence", "failover"):
        rule.value = float(_word(words, line))
    else:
        raise ValueError(f"fault rule {line!r}: {action!r} is no action")
    while words:
        match word := words.pop(0):
            case "login" | "commit":
                rule.kind = word
            case "matching":
                rule.pattern = _word(words, line)
            case "by":
                rule.program = _word(words, line)
            case "at" | "every" | "first" | "chance":
                rule.when, rule.number = word, float(_word(words, line))
            case "always":
                rule.when = word
            case _:
                raise ValueError(f"fault rule {line!r}: {word!r} has no meaning there")
    return rule


def _word(words: list[str], line: str, *allowed: str) -> str:
    if not words or (allowed and words[0] not in allowed):
        raise ValueError(f"fault rule {line!r}: it needs {' or '.join(allowed) or 'one more word'}")
    return words.pop(0)


class Script:
    """The current rules. The same seed produces the same faults for the same order of events."""

    def __init__(self, lines: list[str], seed: int = 0) -> None:
        self.rules = [parse_rule(line) for line in lines if line.strip()]
        self._chance = random.Random(seed)

    def matching(self, event: Event) -> list[Rule]:
        """Return the rules that apply to the event, in order."""
        return [rule for rule in self.rules if rule.applies_to(event, self._chance)]
