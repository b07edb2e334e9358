"""Parse a batch of T-SQL into statements: control flow becomes nodes, all other statements remain texts."""

import re

from tests.tds_server.errors import SqlError
from tests.tds_server.language.cursor import FLOW, STARTERS, Cursor
from tests.tds_server.language.lexer import Token, closing
from tests.tds_server.language.nodes import (
    Assign,
    Block,
    Break,
    Continue,
    Declare,
    DeclareTable,
    DefineProcedure,
    Execute,
    ExecuteText,
    If,
    Node,
    Print,
    Query,
    RaiseError,
    Return,
    SetOption,
    Throw,
    Transaction,
    Try,
    WaitFor,
    While,
)
from tests.tds_server.language.remembered import remembered


@remembered
def parse(text: str) -> tuple[Node, ...]:
    """Return the batch's statements. Raises SqlError 102 for a syntax error."""
    return _Parser(text).batch()


class _Parser(Cursor):
    def batch(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while self.skip_semicolons().kind != "end":
            nodes.append(self.statement())
        return tuple(nodes)

    def skip_semicolons(self) -> Token:
        while self.accept(";"):
            pass
        return self.peek()

    def block(self, *end: str) -> Block:
        nodes: list[Node] = []
        while True:
            if self.skip_semicolons().kind == "end":
                raise SqlError(102, f"Incorrect syntax: a block has no {' '.join(end)}.", 15)
            if self.accept(*end):
                return Block(tuple(nodes))
            nodes.append(self.statement())

    def statement(self) -> Node:
        word = self.peek().upper
        parse_it = getattr(self, f"_{word.lower()}", None) if word in STARTERS else None
        if parse_it and (node := parse_it()) is not None:
            return node  # type: ignore[no-any-return]
        return self._query()

    def _query(self) -> Node:
        first = self.peek()
        # A batch may begin with a procedure's name without EXEC.
        if first.kind == "word" and first.upper not in STARTERS:
            return self._call()
        start = self.at
        self.next()
        inside = set()
        if first.upper in ("GRANT", "DENY", "REVOKE"):
            inside = {"EXECUTE"}  # a right
        elif first.upper == "ALTER" and self.peek().upper == "DATABASE":
            inside = {"ROLLBACK"}  # WITH ROLLBACK IMMEDIATE
        rest = self.until(FLOW - inside)
        text = f"{first.text} {rest}".strip()
        if self.at == start + 1 and first.text == ")":
            raise SqlError(102, "Incorrect syntax near ')'.", 15)
        return Query(text, self._line(first))

    def _line(self, token: Token) -> int:
        return self.text.count("\n", 0, token.start) + 1

    def _declare(self) -> Node:
        self.expect("DECLARE")
        declared: list[Node] = []
        while True:
            name = self.next().name
            self.accept("AS")
            if self.accept("TABLE"):
                start = self.peek().start
                self.at = closing(self.tokens, self.at) + 1
                declared.append(DeclareTable(name, self.text[start : self.tokens[self.at - 1].end]))
            else:
                kind = self.until(STARTERS, ";,=")
                declared.append(Declare(name, kind, self.until(STARTERS, ";,") if self.accept("=") else None))
            if not self.accept(","):
                return declared[0] if len(declared) == 1 else Block(tuple(declared))

    def _set(self) -> Node:
        self.expect("SET")
        if self.peek().kind == "variable":
            name, sign = self.next().name, self.next().text
            value = self.until(STARTERS)
            return Assign(name, value if sign == "=" else f"{name} {sign[0]} ({value})")
        words = self.until(STARTERS).split()
        if len(words) > 3 and words[0].upper() == "TRANSACTION":
            return SetOption("TRANSACTION ISOLATION LEVEL", " ".join(words[3:]).upper())
        return SetOption(" ".join(words[:-1]).upper(), words[-1].upper())

    def _if(self) -> Node:
        self.expect("IF")
        condition = self.until(STARTERS)
        then = self.statement()
        mark = self.at
        self.skip_semicolons()
        if self.accept("ELSE"):
            return If(condition, then, self.statement())
        self.at = mark
        return If(condition, then, None)

    def _while(self) -> Node:
        self.expect("WHILE")
        return While(self.until(STARTERS), self.statement())

    def _begin(self) -> Node:
        self.expect("BEGIN")
        if self.accept("TRY"):
            body = self.block("END", "TRY")
            self.skip_semicolons()
            self.expect("BEGIN")
            self.expect("CATCH")
            return Try(body, self.block("END", "CATCH"))
        if self.accept("TRAN") or self.accept("TRANSACTION"):
            return Transaction("BEGIN", self.until(STARTERS))
        return self.block("END")

    def _end_of_transaction(self) -> Node:
        action = self.next().upper
        self.accept("TRANSACTION") or self.accept("TRAN") or self.accept("WORK")
        return Transaction(action, self.until(STARTERS).lower())

    _commit = _rollback = _save = _end_of_transaction

    def _throw(self) -> Node:
        line = self._line(self.peek())
        self.expect("THROW")
        return Throw(self._list(), line)

    def _raiserror(self) -> Node:
        line = self._line(self.peek())
        self.expect("RAISERROR")
        self.expect("(")
        arguments = self._list()
        self.expect(")")
        options = []
        if self.accept("WITH"):
            while self.peek().upper in ("NOWAIT", "LOG", "SETERROR"):
                options.append(self.next().upper)
                self.accept(",")
        return RaiseError(arguments, "NOWAIT" in options, line)

    def _list(self) -> tuple[str, ...]:
        items = []
        while item := self.until(STARTERS, ";,"):
            items.append(item)
            if not self.accept(","):
                break
        return tuple(items)

    def _return(self) -> Node:
        self.expect("RETURN")
        return Return(self.until(STARTERS) or None)

    def _break(self) -> Node:
        self.next()
        return Break()

    def _continue(self) -> Node:
        self.next()
        return Continue()

    def _waitfor(self) -> Node:
        self.expect("WAITFOR")
        self.expect("DELAY")
        return WaitFor(self.until(STARTERS))

    def _print(self) -> Node:
        self.expect("PRINT")
        return Print(self.until(STARTERS))

    def _use(self) -> Node:
        return SetOption("USE", self.until(STARTERS - {"USE"}))

    def _exec(self) -> Node:
        self.next()
        if self.peek().text == "(":
            self.next()
            expression = self.until(frozenset())
            self.expect(")")
            return ExecuteText(expression)
        return self._call()

    _execute = _exec

    def _call(self) -> Node:
        result = None
        if self.peek().kind == "variable" and self.peek(1).text == "=":
            result = self.next().name
            self.next()
        procedure = self.name()
        arguments = []
        while self.skip_to_argument():
            name = ""
            if self.peek().kind == "variable" and self.peek(1).text == "=":
                name = self.next().name
                self.next()
            value = self.until(STARTERS | {"OUTPUT", "OUT"}, ";,")
            arguments.append((name, value, self.accept("OUTPUT") or self.accept("OUT")))
            if not self.accept(","):
                break
        return Execute(procedure, tuple(arguments), result)

    def skip_to_argument(self) -> bool:
        token = self.peek()
        return token.kind != "end" and token.text != ";" and token.upper not in STARTERS

    def _create(self) -> Node | None:
        """Parse the definition of a procedure, which is the rest of the batch; None: it is the definition of something
        else.
        """
        mark, replace = self.at, False
        start = self.next()
        if self.accept("OR", "ALTER"):
            replace = True
        if not (self.accept("PROCEDURE") or self.accept("PROC")):
            self.at = mark
            return None
        name = self.name()
        bracketed = self.accept("(")
        parameters = []
        while self.peek().kind == "variable":
            parameter = self.next().name
            self.accept("AS")
            kind = self.until(STARTERS | {"AS", "OUTPUT", "OUT", "READONLY"}, ";,=")
            default = self.until(STARTERS | {"AS", "OUTPUT", "OUT"}, ";,") if self.accept("=") else None
            output = self.accept("OUTPUT") or self.accept("OUT")
            parameters.append(Declare(parameter, kind, default, output))
            self.accept(",")
        if bracketed:
            self.expect(")")
        self.until(frozenset({"AS"}))
        self.expect("AS")
        return DefineProcedure(name, replace, tuple(parameters), Block(self.batch()), self.text[start.start :])

    _alter = _create


def delay_seconds(text: str) -> float:
    """Return the seconds of 'hh:mm:ss.fff'. Raises SqlError 148 for any other text."""
    match = re.fullmatch(r"(\d+):(\d+)(?::(\d+(?:\.\d+)?))?", text.strip())
    if not match:
        raise SqlError(148, f"Incorrect time syntax in time string '{text}' used with WAITFOR.", 15)
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
