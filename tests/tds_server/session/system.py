"""System procedures, and the storage of stored procedures."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.tds_server.errors import SqlError
from tests.tds_server.language import batches
from tests.tds_server.language.nodes import DefineProcedure
from tests.tds_server.language.sqltypes import parse_declarations
from tests.tds_server.session.statements import Output, Scope
from tests.tds_server.session.storage import Storage
from tests.tds_server.wire import values
from tests.tds_server.wire.values import Column

if TYPE_CHECKING:
    from tests.tds_server.session.executor import Session

Arguments = Sequence[tuple[str, Any]]


def by_parameter_name(definition: DefineProcedure, arguments: Arguments) -> dict[str, Any]:
    """Return the arguments by parameter name. Raises SqlError 8144 for too many, 8145 for an unknown name."""
    names = [parameter.name for parameter in definition.parameters]
    values = {}
    for position, (name, value) in enumerate(arguments):
        if not name and position >= len(names):
            raise SqlError(8144, f"Procedure {definition.name} has too many arguments specified.")
        if name and name not in names:
            raise SqlError(8145, f"{name} is not a parameter for procedure {definition.name}.")
        values[name or names[position]] = value
    return values


# Stored procedures


def define(storage: Storage, procedure: DefineProcedure) -> None:
    """Store a procedure. Raises SqlError 2714 if CREATE finds one with this name."""
    name = _full(procedure.name)
    schema = name.split(".")[0]
    if storage.run("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema]).fetchone() is None:
        raise SqlError(2760, f'The specified schema name "{schema}" either does not exist or cannot be used.')
    if not procedure.replace and _stored(storage, name) is not None:
        raise SqlError(2714, f"There is already an object named '{name}' in the database.")
    storage.run(
        "INSERT INTO sys.procedure_text (name, definition) VALUES ($1, $2) "
        "ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
        [name, procedure.text],
    )


def definition(storage: Storage, name: str) -> DefineProcedure:
    """Return a stored procedure. Raises SqlError 2812 if there is none with this name."""
    text = _stored(storage, _full(name))
    if text is None:
        raise SqlError(2812, f"Could not find stored procedure '{name}'.")
    found = batches.parse(text)[0]
    assert isinstance(found, DefineProcedure)
    return found


def _full(name: str) -> str:
    plain = name.replace("[", "").replace("]", "").lower()
    return plain if "." in plain else f"dbo.{plain}"


def _stored(storage: Storage, name: str) -> str | None:
    row = storage.run("SELECT definition FROM sys.procedure_text WHERE name = $1", [name]).fetchone()
    return row[0] if row else None


# System procedures


def _get_lock(session: "Session", arguments: Arguments, output: Output) -> Scope:
    values = _by_name(arguments, ("@resource", "@lockmode", "@lockowner", "@locktimeout"))
    timeout = values.get("@locktimeout")
    whole_session = str(values.get("@lockowner") or "Transaction").lower() == "session"
    shared = "shared" in str(values.get("@lockmode") or "").lower()
    milliseconds = session.storage.lock_timeout if timeout is None else int(timeout)
    return Scope(status=session.storage.lock(str(values["@resource"]), shared, whole_session, milliseconds))


def _release_lock(session: "Session", arguments: Arguments, output: Output) -> Scope:
    """Release a session's lock. PostgreSQL cannot release a transaction's lock before the transaction ends."""
    values = _by_name(arguments, ("@resource", "@lockowner"))
    whole_session = str(values.get("@lockowner") or "Transaction").lower() == "session"
    resource = str(values["@resource"])
    if whole_session and not session.storage.unlock(resource):
        raise SqlError(1223, f"Cannot release the application lock '{resource}' because it is not currently held.")
    return Scope()


def _execute_text(session: "Session", arguments: Arguments, output: Output) -> Scope:
    """Execute sp_executesql, called from T-SQL."""
    texts = [value for _, value in arguments[:2]]
    types = parse_declarations(texts[1] if len(texts) > 1 else "")
    scope = Scope(types, {}, depth=1)
    for (name, value), declared in zip(arguments[2:], types, strict=False):
        scope.values[name or declared] = value
    session.run_batch(str(texts[0]), scope, output)
    return scope


TYPES = {  # by ODBC type: name, precision, prefix of a literal
    -9: ("nvarchar", 4000),
    12: ("varchar", 8000),
    -3: ("varbinary", 8000),
    93: ("datetime2", 27),
    -155: ("datetimeoffset", 34),
    -154: ("time", 16),
    91: ("date", 10),
    -5: ("bigint", 19),
    4: ("int", 10),
    -7: ("bit", 1),
    6: ("float", 53),
    2: ("numeric", 38),
    3: ("decimal", 38),
    -11: ("uniqueidentifier", 36),
}


def _type_information(session: "Session", arguments: Arguments, output: Output) -> Scope:
    """Execute sp_datatype_info_100. The driver derives the digits of a second from the precision."""
    wanted = arguments[0][1] if arguments else 0
    shape = [
        Column("TYPE_NAME", values.nvarchar(128)),
        Column("DATA_TYPE", values.integer(2)),
        Column("PRECISION", values.integer(4)),
    ]
    found = [(name, number, precision) for number, (name, precision) in TYPES.items() if wanted in (0, number)]
    output.rows(shape, found, counted=True)
    return Scope()


def _nothing(session: "Session", arguments: Arguments, output: Output) -> Scope:
    return Scope()


def _by_name(arguments: Arguments, names: tuple[str, ...]) -> dict[str, Any]:
    return {name or names[position]: value for position, (name, value) in enumerate(arguments)}


PROCEDURES: dict[str, Callable[["Session", Arguments, Output], Scope]] = {
    "sp_getapplock": _get_lock,
    "sp_releaseapplock": _release_lock,
    "sp_executesql": _execute_text,
    "sp_datatype_info_100": _type_information,
    "sp_set_session_context": _nothing,
    "sp_addextendedproperty": _nothing,
    "sp_addrolemember": _nothing,
}
