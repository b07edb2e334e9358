"""Procedures: those of the server itself, and where the stored ones are kept."""

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


def named(definition: DefineProcedure, arguments: Arguments) -> dict[str, Any]:
    """The arguments by the names of their parameters; raises SqlError 8144 or 8145 for one too many or unknown."""
    names = [parameter.name for parameter in definition.parameters]
    given = {}
    for position, (name, value) in enumerate(arguments):
        if not name and position >= len(names):
            raise SqlError(8144, f"Procedure {definition.name} has too many arguments specified.")
        if name and name not in names:
            raise SqlError(8145, f"{name} is not a parameter for procedure {definition.name}.")
        given[name or names[position]] = value
    return given


# Stored procedures.


def define(storage: Storage, procedure: DefineProcedure) -> None:
    """Stores a procedure's text; raises SqlError 2714 where CREATE finds one of that name."""
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
    """The stored procedure of that name; raises SqlError 2812 where there is none."""
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


# The server's own.


def _get_lock(session: "Session", arguments: Arguments, output: Output) -> Scope:
    given = _by_name(arguments, ("@resource", "@lockmode", "@lockowner", "@locktimeout"))
    timeout = given.get("@locktimeout")
    whole_session = str(given.get("@lockowner") or "Transaction").lower() == "session"
    shared = "shared" in str(given.get("@lockmode") or "").lower()
    milliseconds = session.storage.lock_timeout if timeout is None else int(timeout)
    return Scope(status=session.storage.lock(str(given["@resource"]), shared, whole_session, milliseconds))


def _release_lock(session: "Session", arguments: Arguments, output: Output) -> Scope:
    """A transaction's lock stays until the transaction ends: PostgreSQL cannot give it back earlier."""
    given = _by_name(arguments, ("@resource", "@lockowner"))
    whole_session = str(given.get("@lockowner") or "Transaction").lower() == "session"
    resource = str(given["@resource"])
    if whole_session and not session.storage.unlock(resource):
        raise SqlError(1223, f"Cannot release the application lock '{resource}' because it is not currently held.")
    return Scope()


def _execute_text(session: "Session", arguments: Arguments, output: Output) -> Scope:
    """sp_executesql, as it is called in T-SQL."""
    texts = [value for _, value in arguments[:2]]
    types = parse_declarations(texts[1] if len(texts) > 1 else "")
    scope = Scope(types, {}, depth=1)
    for (name, value), declared in zip(arguments[2:], types, strict=False):
        scope.values[name or declared] = value
    session.run_batch(str(texts[0]), scope, output)
    return scope


TYPES = {  # by ODBC's number: name, precision, the prefix of a literal
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
    """sp_datatype_info_100: the driver sends as many digits of a second as the precision leaves room for."""
    asked = arguments[0][1] if arguments else 0
    shape = [
        Column("TYPE_NAME", values.nvarchar(128)),
        Column("DATA_TYPE", values.integer(2)),
        Column("PRECISION", values.integer(4)),
    ]
    found = [(name, number, precision) for number, (name, precision) in TYPES.items() if asked in (0, number)]
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
