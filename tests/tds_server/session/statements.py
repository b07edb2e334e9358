"""Execute single statements and expressions of a session, with the variables of their scope."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.tds_server.errors import CancelledError, SqlError
from tests.tds_server.language.lexer import literal, tokenize
from tests.tds_server.language.sqltypes import SqlType, column, parse_type, to_postgres
from tests.tds_server.session.storage import Storage
from tests.tds_server.translation import ddl, dml
from tests.tds_server.wire.requests import ISOLATION
from tests.tds_server.wire.values import Column

NEEDS_TRANSACTION = re.compile(r"\b(?:FROM|INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|TRUNCATE)\b", re.IGNORECASE)
"""A statement that begins a transaction under IMPLICIT_TRANSACTIONS: a query without a table does not."""


class Output(Protocol):
    """Receives results in their order."""

    def rows(self, columns: Sequence[Column], rows: Sequence[Sequence[Any]], counted: bool) -> None: ...
    def count(self, affected: int) -> None: ...
    def error(self, error: SqlError) -> None: ...
    def message(self, number: int, text: str, severity: int, state: int, at_once: bool) -> None: ...


@dataclass
class Scope:
    """The variables of a batch or of a procedure call. ``depth``: the nesting depth of calls.

    ``procedure``: the name of the called procedure.
    """

    types: dict[str, SqlType] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    depth: int = 0
    status: int = 0
    procedure: str = ""

    def declare(self, name: str, kind: SqlType, value: Any = None) -> None:
        self.types[name] = kind
        self.values[name] = value


class Statements:
    """Executes statements and keeps the session's state of the last one."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.row_count = 0
        self.last_error = 0
        self.caught: list[SqlError] = []  # the errors of the active CATCH blocks, innermost last
        self.doomed = False
        self.options = {"NOCOUNT": False, "XACT_ABORT": False, "IMPLICIT_TRANSACTIONS": False}
        self.most = 0
        """SET ROWCOUNT: a statement stops after so many rows; 0: it does not."""

    def run(self, text: str, scope: Scope, output: Output) -> None:
        """Execute a statement that reads or changes data, or defines an object. Raises SqlError."""
        if self.doomed:
            raise SqlError(
                3930, "The current transaction cannot be committed and cannot support operations that write."
            )
        if self.options["IMPLICIT_TRANSACTIONS"] and not self.storage.depth and NEEDS_TRANSACTION.search(text):
            self.storage.begin()
        if text.split(None, 1)[0].upper() in ddl.FIRST_WORDS:
            for sql in ddl.translate(text):
                self.storage.run(sql)
            return
        translated = dml.translate(text, tuple(scope.types.items()), self.most)
        cursor = self._query(translated, scope)
        description = cursor.description  # made anew by each look at it
        if description is None:
            self.row_count = max(cursor.rowcount, 0)
            if translated.writes and not self.options["NOCOUNT"]:
                output.count(self.row_count)
            return
        found = cursor.fetchall()
        self.row_count = len(found)
        if translated.assigned:
            if found:
                scope.values.update(zip(translated.assigned, found[-1], strict=True))
            return
        names = translated.names or [described.name for described in description]
        shape = [column(names[i], described, found, i) for i, described in enumerate(description)]
        output.rows(shape, found, counted=not self.options["NOCOUNT"])

    def evaluate(self, expression: str, scope: Scope, kind: str | None = None) -> Any:
        """Return the value of an expression, converted to the declared type of its variable."""
        declared = parse_type(kind) if kind else None
        tokens = tokenize(expression)
        if len(tokens) == 1 and tokens[0].kind == "text" and (declared is None or declared.parameter == "text"):
            return literal(tokens[0])
        translated = dml.translate(f"SELECT {expression}", tuple(scope.types.items()))
        if declared is not None:
            translated = translated._replace(sql=f"SELECT CAST(({translated.sql}) AS {declared.parameter})")
        row = self._query(translated, scope).fetchone()
        return row[0] if row else None

    def holds(self, condition: str, scope: Scope) -> bool:
        return bool(self.evaluate(f"CASE WHEN {condition} THEN 1 ELSE 0 END", scope))

    def _query(self, translated: dml.Translated, scope: Scope) -> Any:
        arguments = [to_postgres(self._variable(name, scope)) for name in translated.parameters]
        if not translated.serial:
            return self.storage.run(translated.sql, arguments)
        own = not self.storage.depth
        if own:
            self.storage.begin()
        try:
            for table in translated.serial:
                self.storage.run("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", [table])
            cursor = self.storage.run(translated.sql, arguments)
        except (SqlError, CancelledError):
            if own and self.storage.depth:
                self.storage.rollback()
            raise
        if own:
            self.storage.commit()
        return cursor

    def _variable(self, name: str, scope: Scope) -> Any:
        if name in scope.values:
            return scope.values[name]
        caught = self.caught[-1] if self.caught else None
        match name:
            case "@__rowcount":
                return self.row_count
            case "@__trancount":
                return self.storage.depth
            case "@__error":
                return self.last_error
            case "@__spid":
                return self.storage.spid
            case "@__lock_timeout":
                return self.storage.lock_timeout
            case "@__version":
                return "Microsoft SQL Server 2022 (RTM) - 16.0.4165.4 (X64), as the test server plays it"
            case "@__isolation":
                return ISOLATION.index(self.storage.isolation)
            case "@__xact_state":
                return -1 if self.doomed else min(self.storage.depth, 1)
            case "@__error_number":
                return caught and caught.number
            case "@__error_message":
                return caught and str(caught)
            case "@__error_severity":
                return caught and caught.severity
            case "@__error_state":
                return caught and caught.state
            case "@__error_line":
                return caught and caught.line
            case "@__error_procedure":
                return (caught and caught.procedure) or None
        return None
