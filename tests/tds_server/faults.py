r"""Fault injection: a script of rules, one per line, that define the faults and when they occur.

    error 1205 matching "UPDATE next" every 50     the statement is answered with that error
    stall 2.5 matching "heartbeat" at 1            the answer comes that many seconds late
    silence 30 matching "heartbeat" at 1           the same, and a cancel request is not answered meanwhile
    drop before commit at 10                       the connection is cut, and the transaction is rolled back
    drop after commit every 20                     the commit succeeds, but its answer is lost
    drop after matching "OUTPUT inserted" at 3     the statement runs, but its answer is lost
    error 40613 login first 5                      logins that fail
    failover 3 at 200                              all connections are cut, logins are refused for 3 s

A rule is an action; then ``login``, ``commit`` or ``matching "a regular expression"`` (else any statement); then
``by "program"`` if it is for one program only; then ``at N``, ``every N``, ``first N``, ``chance P`` or ``always``
(the default). Each rule counts only the events that match it. Errors that roll back on SQL Server roll back here.

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
    """``kind`` is one of LOGIN, COMMIT, STATEMENT, CONTROL: a request that reads and writes no data."""

    kind: str
    text: str
    program: str


@dataclass
class Rule:
    """One line of a script; ``value`` is its action's number.

    ``action``: error, stall, silence, drop before, drop after or failover.
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

    def strikes(self, event: Event, chance: random.Random) -> bool:
        """Count the event; returns whether this rule applies to it."""
        if not self._is_for(event.kind) or (self.program and self.program not in event.program):
            return False
        if self.pattern and not re.search(self.pattern, event.text, re.IGNORECASE | re.DOTALL):
            return False
        self.seen += 1
        match self.when:
            case "at":
                struck = self.seen == self.number
            case "every":
                struck = self.seen % self.number == 0
            case "first":
                struck = self.seen <= self.number
            case "chance":
                struck = chance.random() < self.number
            case _:
                struck = True
        self.fired += struck
        return struck

    def _is_for(self, kind: str) -> bool:
        return kind == self.kind or (kind == CONTROL and self.kind == STATEMENT and self.action != "error")


def parse_rule(line: str) -> Rule:
    """Parse one rule. Raises ValueError that names the invalid word."""
    words = shlex.split(line)
    action = words.pop(0) if words else ""
    rule = Rule(line, action)
    if action == "drop":
        rule.action = f"drop {_word(words, line, 'before', 'after')}"
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
    """The rules in force. The same seed gives the same faults for the same order of events."""

    def __init__(self, lines: list[str], seed: int = 0) -> None:
        self.rules = [parse_rule(line) for line in lines if line.strip()]
        self._chance = random.Random(seed)

    def struck(self, event: Event) -> list[Rule]:
        """The rules that apply to the event, in order."""
        return [rule for rule in self.rules if rule.strikes(event, self._chance)]
