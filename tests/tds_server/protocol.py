"""One logged-in connection: reads requests, runs them, and sends the answers."""

import logging
import re
from dataclasses import dataclass, field
from typing import Protocol

from tests.tds_server.errors import CancelledError, SqlError
from tests.tds_server.faults import COMMIT, CONTROL, STATEMENT
from tests.tds_server.language.sqltypes import SqlType, parse_declarations, parse_type
from tests.tds_server.session.executor import Session
from tests.tds_server.session.statements import Scope
from tests.tds_server.wire import requests, tokens, transport
from tests.tds_server.wire.answer import Answer
from tests.tds_server.wire.requests import Argument, Call
from tests.tds_server.wire.transport import Message, Transport

log = logging.getLogger(__name__)
COMMITS = re.compile(r"\s*(IF\s+@@TRANCOUNT\s*>\s*0\s+)?COMMIT\b", re.IGNORECASE)
INT = parse_type("int").kind


class Watcher(Protocol):
    """Observes requests: counts and records them, and may inject faults."""

    def request(self, text: str, kind: str) -> None:
        """Called before a request runs, with its kind as in ``faults``. Raises the fault to inject."""

    def answered(self) -> None:
        """Called after a request ran, before the answer is sent. Raises ConnectionError to suppress the answer."""

    def record(self, text: str, declarations: str) -> None:
        """Record a T-SQL text that a client sent."""


@dataclass(frozen=True)
class Prepared:
    """A prepared statement: a text with the types of its parameters, or a procedure call."""

    text: str
    types: dict[str, SqlType] = field(default_factory=dict)
    procedure: str = ""


class Conversation:
    """Answers one client's requests until it disconnects."""

    def __init__(self, wire: Transport, session: Session, watcher: Watcher) -> None:
        self.wire = wire
        self.session = session
        self.watcher = watcher
        self._prepared: dict[int, Prepared] = {}
        self._handles = 0
        self._transaction = b""  # the transaction number sent to the client; empty outside a transaction
        self._transactions = 0

    def run(self) -> None:
        """Answer requests. Raises ConnectionError when the client disconnects, or when a fault cuts it off."""
        while True:
            message = self.wire.read()
            if message.type == transport.ATTENTION:
                self._acknowledge()
                continue
            try:
                payload, goes_on = self._answer(message)
            except CancelledError:
                self._await_attention()
                continue
            self.wire.write(transport.ANSWER, payload)
            if not goes_on:
                raise ConnectionError("an error ended the connection")

    def _await_attention(self) -> None:
        while self.wire.read().type != transport.ATTENTION:
            pass
        self.session.cancel()
        self._acknowledge()

    def _acknowledge(self) -> None:
        self.wire.write(transport.ANSWER, self._change() + tokens.done(tokens.DONE, tokens.ATTENTION))

    def _answer(self, message: Message) -> tuple[bytes, bool]:
        """Answer a message; returns the answer, and whether the connection stays open."""
        answer = Answer(lambda part: self.wire.write(transport.ANSWER, part, whole=False))
        if message.reset:
            self.session.reset()
            self._prepared.clear()
            self._transaction = b""
            answer.add(tokens.environment(tokens.RESET))
        try:
            self._check_descriptor(requests.parse_descriptor(message.payload))
            self._dispatch(message, answer)
        except SqlError as error:
            if error.ends_transaction and self.session.storage.depth:
                self.session.transaction("ROLLBACK", "")
            self._announce(answer)
            answer.error(error)
            return answer.finish(), not error.ends_connection
        return answer.finish(), True

    def _check_descriptor(self, stated: bytes) -> None:
        """Check that the driver and the server agree on the transaction. Raises SqlError 3971 or 3989."""
        if stated == self._transaction:
            return
        if stated:
            raise SqlError(3971, f"The server failed to resume the transaction. Desc:{stated[::-1].hex()}.")
        text = "New request is not allowed to start because it should come with valid transaction descriptor."
        raise SqlError(3989, text)

    def _dispatch(self, message: Message, answer: Answer) -> None:
        try:
            match message.type:
                case transport.BATCH:
                    self._batch(requests.parse_batch(message.payload), answer)
                case transport.CALL:
                    self._calls(requests.parse_calls(message.payload), answer)
                case transport.TRANSACTION:
                    self._manage(requests.parse_transaction(message.payload), answer)
                case other:
                    answer.error(SqlError(50000, f"Requests of type {other} are not known to the test server."))
        except (SqlError, CancelledError, OSError):
            raise
        except Exception as error:
            log.exception("an error of the test server's own")
            raise SqlError(50000, f"The test server failed: {type(error).__name__}: {error}") from None

    # Batches and calls

    def _batch(self, text: str, answer: Answer) -> None:
        self.watcher.record(text, "")
        self.watcher.request(text, COMMIT if COMMITS.match(text) else STATEMENT)
        self._attempt(text, Scope(), answer)
        self._announce(answer)
        self.watcher.answered()

    def _attempt(self, text: str, scope: Scope, answer: Answer) -> None:
        """Execute a text. Its error becomes part of the answer, unless it ends the connection."""
        try:
            self.session.run_batch(text, scope, answer)
        except SqlError as error:
            self._failed(error, answer)

    def _failed(self, error: SqlError, answer: Answer) -> None:
        if error.ends_connection:
            raise error
        answer.error(error)

    def _calls(self, calls: list[Call], answer: Answer) -> None:
        given_up = all(call.procedure.lower() == "sp_unprepare" for call in calls)
        self.watcher.request(self._text(calls[0]), CONTROL if given_up else STATEMENT)
        for call in calls:
            answer.within_procedure()
            status = self._call(call, answer)
            self._announce(answer)
            answer.end_call(status)
        self.watcher.answered()

    def _text(self, call: Call) -> str:
        """Return the text that a call executes, for fault scripts."""
        match call.procedure.lower():
            case "sp_executesql":
                return str(call.arguments[0].value)
            case "sp_prepexec" | "sp_prepare":
                return str(call.arguments[2].value)
            case "sp_prepexecrpc":
                return f"EXEC {call.arguments[1].value}"
            case "sp_execute":
                return self._prepared.get(call.arguments[0].value, Prepared("")).text
        return f"EXEC {call.procedure}"

    def _call(self, call: Call, answer: Answer) -> int:
        arguments = call.arguments
        match call.procedure.lower():
            case "sp_executesql":
                text, declarations = str(arguments[0].value), str(arguments[1].value) if len(arguments) > 1 else ""
                self.watcher.record(text, declarations)
                self._run(text, parse_declarations(declarations), arguments[2:], answer)
            case "sp_prepexec" | "sp_prepare" as how:
                text, declarations = str(arguments[2].value), str(arguments[1].value or "")
                self.watcher.record(text, declarations)
                prepared = Prepared(text, parse_declarations(declarations))
                status = self._execute(prepared, arguments[3:], answer) if how == "sp_prepexec" else 0
                self._return_handle(arguments[0], prepared, answer)
                return status
            case "sp_prepexecrpc":
                prepared = Prepared(f"EXEC {arguments[1].value}", procedure=str(arguments[1].value))
                status = self._execute(prepared, arguments[2:], answer)
                self._return_handle(arguments[0], prepared, answer)
                return status
            case "sp_execute":
                known = self._prepared.get(arguments[0].value)
                if known is None:
                    answer.error(SqlError(8179, f"Could not find prepared statement with handle {arguments[0].value}."))
                    return 8179
                return self._execute(known, arguments[1:], answer)
            case "sp_unprepare":
                self._prepared.pop(arguments[0].value, None)
            case _:
                return self._procedure(call.procedure, arguments, answer)
        return 0

    def _return_handle(self, argument: Argument, prepared: Prepared, answer: Answer) -> None:
        self._handles += 1
        self._prepared[self._handles] = prepared
        answer.add(tokens.return_value(0, argument.name, INT, self._handles))

    def _execute(self, prepared: Prepared, arguments: list[Argument], answer: Answer) -> int:
        if prepared.procedure:
            return self._procedure(prepared.procedure, arguments, answer)
        self._run(prepared.text, prepared.types, arguments, answer)
        return 0

    def _run(self, text: str, types: dict[str, SqlType], arguments: list[Argument], answer: Answer) -> None:
        """Execute a text with parameters. Arguments without a name are in the order of the declarations."""
        scope = Scope(dict(types))
        for declared, argument in zip(types, arguments, strict=False):
            scope.values[argument.name or declared] = argument.value
        self._attempt(text, scope, answer)
        self._return_outputs(scope, arguments, answer)

    def _procedure(self, name: str, arguments: list[Argument], answer: Answer) -> int:
        try:
            named = [(argument.name, argument.value) for argument in arguments]
            scope = self.session.call(name, named, 0, answer)
        except SqlError as error:
            self._failed(error, answer)
            return -6
        self._return_outputs(scope, arguments, answer)
        return scope.status

    def _return_outputs(self, scope: Scope, arguments: list[Argument], answer: Answer) -> None:
        for position, argument in enumerate(arguments):
            if argument.output:
                name = argument.name or list(scope.types)[position]
                answer.add(tokens.return_value(position, name, scope.types[name].kind, scope.values[name]))

    # Transactions

    def _manage(self, request: requests.Transaction, answer: Answer) -> None:
        self.watcher.request("", COMMIT if request.action == requests.COMMIT else CONTROL)
        action = {requests.BEGIN: "BEGIN", requests.COMMIT: "COMMIT", requests.SAVE: "SAVE"}.get(
            request.action, "ROLLBACK"
        )
        if request.isolation and action == "BEGIN":
            self.session.storage.isolation = request.isolation
        self.session.transaction(action, request.name if action != "COMMIT" else "")
        self._announce(answer)
        if request.then_begin:
            self.session.storage.isolation = request.isolation or self.session.storage.isolation
            self.session.transaction("BEGIN", "")
            self._announce(answer)
        self.watcher.answered()

    def _announce(self, answer: Answer) -> None:
        """Notify the driver of every transaction that began or ended."""
        if change := self._change():
            answer.add(change)

    def _change(self) -> bytes:
        """Return what tells the driver that a transaction began or ended; empty: none did."""
        storage = self.session.storage
        if storage.depth and not self._transaction:
            self._transactions += 1
            self._transaction = self._transactions.to_bytes(8, "little")
            return tokens.environment(tokens.BEGAN, self._transaction)
        if not storage.depth and self._transaction:
            kind = tokens.COMMITTED if storage.ended_by == "COMMIT" else tokens.ROLLED_BACK
            ended, self._transaction = self._transaction, b""
            return tokens.environment(kind, b"", ended)
        return b""
