"""Execute batches and procedures of one session: control flow, transactions, errors that can be caught."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.tds_server.errors import CancelledError, SqlError
from tests.tds_server.language import batches, nodes
from tests.tds_server.language.nodes import Node
from tests.tds_server.language.sqltypes import parse_type
from tests.tds_server.session import system
from tests.tds_server.session.statements import Output, Scope, Statements
from tests.tds_server.session.storage import Storage
from tests.tds_server.translation import ddl

NESTING = 32
ISOLATION = "TRANSACTION ISOLATION LEVEL"


class _Returned(Exception):
    pass


class _LoopEnded(Exception):
    pass


class _LoopContinued(Exception):
    pass


class Session:
    """The interpreter of one connection."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.statements = Statements(storage)
        self._batches = 0
        self._trying = 0
        self._tables: Counter[str] = Counter()  # table variables by name: of all procedures that run now
        storage.is_ended_by_error = lambda: (
            self._batches > 0 and not self._trying and self.statements.options["XACT_ABORT"]
        )

    def reset(self) -> None:
        """Reset the session to its state after a login."""
        self.storage.reset()
        self.statements = Statements(self.storage)

    def cancel(self) -> None:
        """End what a cancelled request leaves: XACT_ABORT makes SQL Server roll its transaction back."""
        if self.statements.options["XACT_ABORT"] and self.storage.depth:
            self._rollback()

    def run_batch(self, text: str, scope: Scope, output: Output) -> None:
        """Execute a batch. Raises the error that ends it; other errors go to the output."""
        self._batches += 1
        try:
            for node in batches.parse(text):
                self._run(node, scope, output)
        except _Returned:
            pass
        except SqlError:
            if self.statements.options["XACT_ABORT"] and not self._trying and self.storage.depth:
                self._rollback()
            raise
        finally:
            self._batches -= 1
            self._drop_tables(scope)
        if self.statements.doomed and not scope.depth:
            self._rollback()
            raise SqlError(3998, "Uncommittable transaction is detected at the end of the batch. It is rolled back.")

    def call(self, procedure: str, arguments: Sequence[tuple[str, Any]], depth: int, output: Output) -> Scope:
        """Call a procedure; returns its scope with outputs and status. ``arguments``: (name or "", value)."""
        if depth >= NESTING:
            raise SqlError(217, f"Maximum stored procedure nesting level exceeded (limit {NESTING}).")
        if builtin := system.PROCEDURES.get(procedure.rsplit(".", 1)[-1].lower()):
            return builtin(self, arguments, output)
        definition = system.definition(self.storage, procedure)
        scope = Scope(depth=depth + 1, procedure=procedure.lower())
        values = system.by_parameter_name(definition, arguments)
        for parameter in definition.parameters:
            value = values[parameter.name] if parameter.name in values else self._default(definition.name, parameter)
            scope.declare(parameter.name, parse_type(parameter.type), value)
        options, most, transactions = dict(self.statements.options), self.statements.most, self.storage.depth
        try:
            self._run(definition.body, scope, output)
        except _Returned:
            pass
        except CancelledError:
            self.cancel()  # by the procedure's own XACT_ABORT
            raise
        finally:
            self.statements.options, self.statements.most = options, most
            self._drop_tables(scope)
        begun_unseen = self.statements.options["IMPLICIT_TRANSACTIONS"] and not transactions
        if self.storage.depth != transactions and not begun_unseen:
            text = f"Transaction count after EXECUTE: previous count = {transactions}, current = {self.storage.depth}."
            output.error(SqlError(266, text))
        return scope

    def _default(self, procedure: str, parameter: nodes.Declare) -> Any:
        if parameter.value is None:
            text = f"Procedure '{procedure}' expects parameter '{parameter.name}', which was not supplied."
            raise SqlError(201, text)
        return self.statements.evaluate(parameter.value, Scope(), parameter.type)

    def _declare_table(self, name: str, definition: str, scope: Scope) -> None:
        """Create a table variable. One with this name of a caller is hidden meanwhile."""
        if name in scope.tables:
            self.storage.run(f'DROP TABLE IF EXISTS "{name}"')
        else:
            if self._tables[name]:
                self.storage.run(f'ALTER TABLE "{name}" RENAME TO "{name} {self._tables[name]}"')
            self._tables[name] += 1
            scope.tables.append(name)
        self.storage.run(ddl.table_variable(name, definition))

    def _drop_tables(self, scope: Scope) -> None:
        while scope.tables:
            name = scope.tables.pop()
            self._tables[name] -= 1
            if not self._tables[name]:
                self.storage.run(f'DROP TABLE IF EXISTS "{name}"')
                continue
            hidden = f'"{name} {self._tables[name]}"'
            self.storage.run(  # a rollback has already restored the caller's table
                f"DO $$ BEGIN IF to_regclass('pg_temp.{hidden}') IS NOT NULL THEN "
                f'DROP TABLE "{name}"; ALTER TABLE {hidden} RENAME TO "{name}"; END IF; END $$'
            )

    def _run(self, node: Node, scope: Scope, output: Output) -> None:
        match node:
            case nodes.Query(text, line):
                self._statement(text, line, scope, output)
            case nodes.Block(body):
                for part in body:
                    self._run(part, scope, output)
            case nodes.Declare(name, kind, value):
                known = None if value is None else self.statements.evaluate(value, scope, kind)
                scope.declare(name, parse_type(kind), known)
            case nodes.DeclareTable(name, definition):
                self._declare_table(name, definition, scope)
            case nodes.Assign(name, value):
                self._assign(name, value, scope)
            case nodes.SetOption(name, value):
                self._set_option(name, value)
            case nodes.If(condition, then, otherwise):
                if self.statements.holds(condition, scope):
                    self._run(then, scope, output)
                elif otherwise is not None:
                    self._run(otherwise, scope, output)
            case nodes.While(condition, body):
                self._loop(condition, body, scope, output)
            case nodes.Try(body, handler):
                self._try(body, handler, scope, output)
            case nodes.Print() | nodes.Throw() | nodes.RaiseError():
                self._say(node, scope, output)
            case nodes.Return(value):
                scope.status = 0 if value is None else int(self.statements.evaluate(value, scope) or 0)
                raise _Returned
            case nodes.Break():
                raise _LoopEnded
            case nodes.Continue():
                raise _LoopContinued
            case nodes.WaitFor(delay):
                self._wait(batches.delay_seconds(str(self.statements.evaluate(delay, scope))))
            case nodes.Execute():
                self._execute(node, scope, output)
            case nodes.ExecuteText(expression):
                text = str(self.statements.evaluate(expression, scope))
                self.run_batch(text, Scope(depth=scope.depth + 1), output)
            case nodes.Transaction(action, name):
                self.transaction(action, name)
            case nodes.DefineProcedure():
                system.define(self.storage, node)

    # Statements and errors

    def _statement(self, text: str, line: int, scope: Scope, output: Output) -> None:
        try:
            self.statements.run(text, scope, output)
            self.statements.last_error = 0
        except SqlError as error:
            self.statements.last_error = error.number
            self.statements.row_count = 0
            _placed(error, line, scope)
            if error.ends_batch or self._trying or self.statements.options["XACT_ABORT"]:
                raise
            output.error(error)

    def _say(self, node: nodes.Print | nodes.Throw | nodes.RaiseError, scope: Scope, output: Output) -> None:
        match node:
            case nodes.Print(expression):
                output.message(0, str(self.statements.evaluate(expression, scope)), 0, 1, at_once=False)
            case nodes.Throw(arguments, line):
                raise _placed(self._thrown(arguments, scope), line, scope)
            case nodes.RaiseError():
                self._raise_error(node, scope, output)

    def _try(self, body: nodes.Block, handler: nodes.Block, scope: Scope, output: Output) -> None:
        self._trying += 1
        try:
            self._run(body, scope, output)
        except SqlError as error:
            if error.ends_connection:
                raise
            caught = error
        else:
            return
        finally:
            self._trying -= 1
        if self.statements.options["XACT_ABORT"] and self.storage.depth:
            self.statements.doomed = True
        self.statements.caught.append(caught)
        try:
            self._run(handler, scope, output)
        finally:
            self.statements.caught.pop()

    def _thrown(self, arguments: tuple[str, ...], scope: Scope) -> SqlError:
        if arguments:
            number, message, state = (self.statements.evaluate(argument, scope) for argument in arguments)
            return SqlError(int(number), _without_placeholders(str(message)), 16, int(state))
        if not self.statements.caught:
            return SqlError(10704, "To rethrow an error, a THROW statement must be used inside a CATCH block.", 15)
        return self.statements.caught[-1]

    def _raise_error(self, node: nodes.RaiseError, scope: Scope, output: Output) -> None:
        message, severity, state, *rest = (self.statements.evaluate(argument, scope) for argument in node.arguments)
        values = iter(rest)
        text = re.sub(r"%[sd%]", lambda found: "%" if found[0] == "%%" else str(next(values)), str(message))
        error = _placed(SqlError(50000, text, int(severity), int(state)), node.line, scope)
        if error.severity <= 10:
            output.message(50000, text, error.severity, error.state, node.at_once)
        elif self._trying:
            raise error
        else:
            output.error(error)

    # Variables, settings and control flow

    def _assign(self, name: str, value: str, scope: Scope) -> None:
        if name not in scope.types:
            raise SqlError(137, f'Must declare the scalar variable "{name}".', 15)
        kind = scope.types[name]
        declared = f"{kind.name}({','.join(kind.sizes)})" if kind.sizes else kind.name
        scope.values[name] = self.statements.evaluate(value, scope, declared)

    def _set_option(self, name: str, value: str) -> None:
        if name == ISOLATION:
            self.storage.isolation = value
        elif name == "LOCK_TIMEOUT":
            self.storage.set_lock_timeout(int(value))
        elif name == "ROWCOUNT":
            self.statements.most = int(value)
        for option in re.split(r"\s*,\s*", name):
            if option in self.statements.options:
                self.statements.options[option] = value == "ON"

    def _loop(self, condition: str, body: Node, scope: Scope, output: Output) -> None:
        while self.statements.holds(condition, scope):
            try:
                self._run(body, scope, output)
            except _LoopEnded:
                return
            except _LoopContinued:
                continue

    def _wait(self, seconds: float) -> None:
        """Execute WAITFOR DELAY. It holds no snapshot, and it ends early if the client cancels or disconnects."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.storage.connection.is_abandoned():
                raise CancelledError
            time.sleep(min(left, 0.05))

    def _execute(self, node: nodes.Execute, scope: Scope, output: Output) -> None:
        wanted = [argument for argument in node.arguments if argument[1].upper() != "DEFAULT"]
        arguments = [(name, self.statements.evaluate(expression, scope)) for name, expression, _ in wanted]
        called = self.call(node.procedure, arguments, scope.depth, output)
        parameters = list(called.values)
        for position, (name, expression, is_output) in enumerate(wanted):
            if is_output:
                scope.values[expression.lower()] = called.values[name or parameters[position]]
        if node.result:
            scope.values[node.result] = called.status

    def transaction(self, action: str, name: str) -> None:
        """Execute BEGIN, COMMIT, ROLLBACK or SAVE. Raises SqlError 3930 for the commit of a doomed transaction."""
        match action:
            case "BEGIN":
                if self.statements.options["IMPLICIT_TRANSACTIONS"] and not self.storage.depth:
                    self.storage.begin()  # the unseen one, which is committed separately
                self.storage.begin()
            case "SAVE":
                self.storage.save(name)
            case "COMMIT":
                if self.statements.doomed:
                    raise SqlError(3930, "The current transaction cannot be committed. Roll back the transaction.")
                self.storage.commit()
            case "ROLLBACK":
                if name:
                    self.storage.rollback_to(name)
                else:
                    self._rollback()

    def _rollback(self) -> None:
        self.statements.doomed = False
        self.storage.rollback()


def _without_placeholders(message: str) -> str:
    """Return what is left of a message of THROW: a single % misses before a blank, and else makes the message blank.

    Source: stackoverflow.com/questions/28487296; the documentation of THROW says that % must be doubled.
    """
    parts = message.split("%%")
    if any(re.search(r"%[^ ]", part) for part in parts):
        return " "
    return "%".join(part.replace("%", "") for part in parts)


def _placed(error: SqlError, line: int, scope: Scope) -> SqlError:
    """The error with the place where it happened, unless it has one."""
    if not error.line:
        error.line, error.procedure = line, scope.procedure
    return error
