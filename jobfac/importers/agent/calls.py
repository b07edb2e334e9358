"""Reads the calls of stored procedures in a script, and the variables that they use. Nothing is executed.

Control flow is ignored: every call counts once, even inside IF and WHILE, and ``doubts`` names the places where that
may be wrong. A variable keeps its value to the end of its batch. It is known where it is set to texts and numbers, to
their concatenation, or to a job that is looked up by its name.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from jobfac.importers.agent.lexer import Broken, Token, tokens

RESERVED = frozenset(
    {
        "alter", "as", "backup", "begin", "break", "close", "commit", "continue", "create", "dbcc",
        "deallocate", "declare", "delete", "deny", "drop", "else", "end", "exec", "execute", "fetch", "from",
        "goto", "grant", "if", "insert", "into", "kill", "merge", "open", "order", "print", "raiserror", "read",
        "restore", "return", "revoke", "rollback", "save", "select", "set", "then", "throw", "truncate",
        "union", "update", "use", "waitfor", "where", "while", "with",
    }
)  # fmt: skip
"""Words that begin or continue a statement, so they cannot be an argument."""

OPERATORS = ("*", "/", "%", "-", "&", "|", "^")
"""Signs between the terms of an expression whose value is not calculated."""

FLOW = {
    "while": "what WHILE repeats was read once; check the jobs, steps and schedules that it adds",
    "else": "both branches of IF and ELSE were read, and the last value counts; check what they add and set",
}
STATEMENTS = RESERVED - {"as", "end", "from", "into", "order", "then", "where", "with"}
"""Words that, after an ELSE, say that it belongs to an IF, and not to a CASE."""

DEEPEST = 50
"""The maximum depth of parentheses in an expression."""


LONGEST = 4 * 1024 * 1024
"""Characters of a concatenation at most: a few lines that double a variable would fill the memory."""


class Unknown(NamedTuple):
    """A value that only the server knows. ``what``: its text in the script."""

    what: str


class JobName(NamedTuple):
    """A job that a script looks up by its name."""

    name: str


class Handle(NamedTuple):
    """What a procedure returned: the job or schedule that it created, by its position in the import."""

    kind: str
    number: int


Value = str | int | None | Unknown | JobName | Handle


@dataclass
class Call:
    """A call. ``arguments``: by the parameter's name in lower case, without @; ``positional``: those without a name.

    ``outputs``: the variables that take what the procedure returns, by parameter.
    """

    procedure: str
    line: int
    arguments: dict[str, Value] = field(default_factory=dict)
    positional: list[tuple[Value, str | None]] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


class Script:
    """The calls of one script, in order.

    The reader of a call must report its result with ``returns`` before the next call is read.
    """

    def __init__(self, text: str) -> None:
        self._tokens: list[Token] = []
        self._at = 0
        self._variables: dict[str, Value] = {}
        self.broken: Broken | None = None
        """Set if the script cannot be read to its end; the calls before that place count."""
        self.doubts: dict[str, int] = {}
        """What may be read wrongly because control flow is ignored, each with its first line."""
        try:
            for token in tokens(text):
                self._tokens.append(token)
        except Broken as error:
            self.broken = error

    def returns(self, call: Call, parameter: str, value: Value) -> None:
        """Set the variable that a call passed for this output parameter."""
        if parameter in call.outputs:
            self._variables[call.outputs[parameter]] = value

    def calls(self) -> Iterator[Call]:
        """Yield the calls of stored procedures."""
        while (token := self._take()) is not None:
            word = token.value.lower() if token.kind == "word" else ""
            if token.kind == "go":
                self._variables.clear()
            elif word in ("exec", "execute"):
                if (call := self._call(token.line)) is not None:
                    if self.broken is not None and self._peek() is None:
                        call.problem = f"the call of {call.procedure} is not complete"
                    yield call
            elif word == "declare":
                self._declare()
            elif word in ("set", "select"):
                self._skip_top()
                self._assign()
            elif word == "into":
                self._forget()
            elif word in FLOW and (word != "else" or self._is(*STATEMENTS)):
                self.doubts.setdefault(FLOW[word], token.line)

    # Tokens

    def _peek(self, ahead: int = 0) -> Token | None:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def _take(self) -> Token | None:
        token = self._peek()
        self._at += 1
        return token

    def _is(self, *values: str, ahead: int = 0) -> bool:
        token = self._peek(ahead)
        return token is not None and token.kind in ("sign", "word") and token.value.lower() in values

    def _skip(self, *values: str) -> bool:
        found = self._is(*values)
        self._at += found
        return found

    # Statements

    def _declare(self) -> None:
        while (token := self._peek()) is not None and token.kind == "variable":
            self._at += 1
            self._skip("as")
            self._variables[token.value.lower()] = None
            while (word := self._peek()) is not None and word.kind in ("word", "name"):
                if word.value.lower() in RESERVED:
                    return
                self._at += 1
            self._parentheses()
            if self._skip("="):
                self._variables[token.value.lower()] = self._expression()
            if not self._skip(","):
                return

    def _assign(self) -> None:
        """SET @x = ..., SELECT @x = ..., @y = ...; other statements are left to the caller."""
        while (token := self._peek()) is not None and token.kind == "variable":
            changes = self._is("+", *OPERATORS, ahead=1) and self._is("=", ahead=2)
            if not changes and not self._is("=", ahead=1):
                return
            adds = changes and self._is("+", ahead=1)
            self._at += 3 if changes else 2
            name, value = token.value.lower(), self._expression()
            if adds:
                value = _joined(self._variables.get(name), value)
            self._variables[name] = Unknown("an expression") if changes and not adds else value
            if not self._skip(","):
                return

    def _skip_top(self) -> None:
        """Skip TOP and DISTINCT, which may stand between SELECT and the variable that it sets."""
        self._skip("distinct", "all")
        if self._skip("top"):
            if self._is("("):
                self._parentheses()
            else:
                self._at += 1

    def _forget(self) -> None:
        """FETCH ... INTO @x, @y: only the server knows the values."""
        while (token := self._peek()) is not None and token.kind == "variable":
            self._at += 1
            self._variables[token.value.lower()] = Unknown(token.value)
            if not self._skip(","):
                return

    def _call(self, line: int) -> Call | None:
        first = self._peek()
        if first is not None and first.kind == "variable" and self._is("=", ahead=1):
            self._at += 2  # the return code
            first = self._peek()
        if first is None:
            return None
        if first.kind not in ("word", "name"):
            self._at += 1
            what = "a text" if first.value == "(" else f"the procedure in {first.value}"
            return Call("", line, problem=f"EXEC of {what} is not looked into")
        name = first.value
        self._at += 1
        while self._is("."):
            self._at += 1
            token = self._peek()
            if token is not None and token.kind in ("word", "name"):
                name = token.value
                self._at += 1
        call = Call(name.lower(), line)
        self._arguments(call)
        return call

    def _arguments(self, call: Call) -> None:
        while (token := self._peek()) is not None:
            name = None
            if token.kind == "variable" and self._is("=", ahead=1):
                name = token.value.lower().lstrip("@")
                self._at += 2
            elif not self._begins_value(token):
                return
            source = self._peek()
            value = self._value()
            output = None
            if source is not None and source.kind == "variable" and self._skip("output", "out"):
                output = source.value.lower()
                self._variables[output] = Unknown(source.value)  # until ``returns`` sets it
            if name is None:
                call.positional.append((value, output))
            else:
                if name in call.arguments:
                    call.problem = f"@{name} is given twice"
                call.arguments[name] = value
                if output is not None:
                    call.outputs[name] = output
            if not self._skip(","):
                return

    def _begins_value(self, token: Token) -> bool:
        if token.kind == "word":
            return token.value.lower() not in RESERVED
        return token.kind in ("text", "number", "variable", "name") or token.value == "-"

    # Values

    def _value(self) -> Value:
        token = self._take()
        if token is None:
            return Unknown("nothing")
        match token.kind:
            case "text" | "name":
                return token.value
            case "number":
                return _number(token.value)
            case "variable":
                return self._variables.get(token.value.lower(), Unknown(token.value))
            case "word" if token.value.lower() in ("null", "default"):
                return None
            case "word":
                return token.value
            case _ if token.value == "-" and (after := self._peek()) is not None and after.kind == "number":
                self._at += 1
                number = _number(after.value)
                return -number if isinstance(number, int) else number
            case _:
                return Unknown(token.value)

    def _expression(self, depth: int = 0) -> Value:
        value = self._term(depth)
        while self._is("+", *OPERATORS):
            adds = self._is("+")
            self._at += 1
            term = self._term(depth)
            value = _joined(value, term) if adds else Unknown("an expression")
        return value

    def _term(self, depth: int) -> Value:
        token = self._peek()
        if token is None or token.kind == "go":
            return Unknown("nothing")
        if token.value == "(" and token.kind == "sign" and depth < DEEPEST:
            self._at += 1
            value = self._expression(depth + 1)
            if self._skip(")"):
                return value
            return Unknown("an expression")
        if token.kind != "word" or token.value.lower() == "null":
            return self._value()
        if (found := self._job_by_name()) is not None:
            return found
        self._at += 1
        if token.value.lower() in ("char", "nchar") and self._is("("):
            inner = self._peek(1)
            self._parentheses()
            code = _number(inner.value) if inner is not None and inner.kind == "number" else None
            return chr(code) if isinstance(code, int) and 0 < code < 0xD800 else Unknown(token.value)
        self._parentheses()
        return Unknown(token.value)

    def _job_by_name(self) -> JobName | None:
        """job_id FROM msdb.dbo.sysjobs WHERE (name = N'...'), as SSMS writes it before it creates a job."""
        words = [token for ahead in range(16) if (token := self._peek(ahead)) is not None]
        plain = [token.value.lower() for token in words]
        if plain[:2] != ["job_id", "from"] or "where" not in plain or "name" not in plain:
            return None
        if not {"sysjobs", "sysjobs_view"} & set(plain[: plain.index("where")]):
            return None
        name = plain.index("name")
        if plain[name + 1 : name + 2] == ["="] and len(words) > name + 2 and words[name + 2].kind == "text":
            self._at += name + 3
            return JobName(words[name + 2].value)
        return None

    def _parentheses(self) -> None:
        """Skip a group in parentheses, if there is one."""
        if not self._is("("):
            return
        depth = 0
        while (token := self._take()) is not None and token.kind != "go":
            if token.kind == "sign":
                depth += (token.value == "(") - (token.value == ")")
            if depth == 0:
                return


def _number(text: str) -> int | str:
    if text[:2].lower() == "0x":
        return text.lower()
    return int(text) if text.isdigit() and len(text) <= 18 else text


def _joined(left: Value, right: Value) -> Value:
    if isinstance(left, str) and isinstance(right, str):
        return left + right if len(left) + len(right) <= LONGEST else Unknown("a text that is too long")
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return Unknown("an expression")
