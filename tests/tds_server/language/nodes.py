"""The statements of a batch, as ``batches`` finds them and ``executor`` runs them; expressions are texts of T-SQL."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """One statement of data or its definition. ``line``: where it begins in its batch, from 1."""

    text: str
    line: int = 1


@dataclass(frozen=True)
class Declare:
    name: str
    type: str
    value: str | None
    output: bool = False


@dataclass(frozen=True)
class DeclareTable:
    name: str
    definition: str


@dataclass(frozen=True)
class Assign:
    name: str
    value: str


@dataclass(frozen=True)
class SetOption:
    name: str
    value: str


@dataclass(frozen=True)
class If:
    condition: str
    then: "Node"
    otherwise: "Node | None"


@dataclass(frozen=True)
class While:
    condition: str
    body: "Node"


@dataclass(frozen=True)
class Block:
    body: "tuple[Node, ...]"


@dataclass(frozen=True)
class Try:
    body: Block
    handler: Block


@dataclass(frozen=True)
class Throw:
    """Number, message and state as expressions; none of them: the error at hand again."""

    arguments: tuple[str, ...]
    line: int = 1


@dataclass(frozen=True)
class RaiseError:
    """``at_once``: WITH NOWAIT, so the client has it before the batch ends."""

    arguments: tuple[str, ...]
    at_once: bool = False
    line: int = 1


@dataclass(frozen=True)
class Return:
    value: str | None


@dataclass(frozen=True)
class Break:
    pass


@dataclass(frozen=True)
class Continue:
    pass


@dataclass(frozen=True)
class WaitFor:
    """The delay as an expression: a text 'hh:mm:ss.fff' or a variable that holds one."""

    delay: str


@dataclass(frozen=True)
class Execute:
    """A procedure's call: arguments as (name or "", expression, wants the output back)."""

    procedure: str
    arguments: tuple[tuple[str, str, bool], ...]
    result: str | None


@dataclass(frozen=True)
class ExecuteText:
    expression: str


@dataclass(frozen=True)
class Transaction:
    """``action`` is BEGIN, COMMIT, ROLLBACK or SAVE."""

    action: str
    name: str


@dataclass(frozen=True)
class Print:
    expression: str


@dataclass(frozen=True)
class DefineProcedure:
    name: str
    replace: bool
    parameters: tuple[Declare, ...]
    body: Block
    text: str


Node = (
    Query
    | Declare
    | DeclareTable
    | Assign
    | SetOption
    | If
    | While
    | Block
    | Try
    | Throw
    | RaiseError
    | Return
    | Break
    | Continue
    | WaitFor
    | Execute
    | ExecuteText
    | Transaction
    | Print
    | DefineProcedure
)
