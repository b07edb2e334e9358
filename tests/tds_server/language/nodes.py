"""The statements of a batch, produced by ``batches`` and executed by ``executor``. Expressions are T-SQL texts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """A statement that reads or changes data, or defines an object. ``line``: where it begins in its batch, from 1."""

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
    """Number, message and state as expressions. Without them it throws the caught error again."""

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
    """The delay as an expression: a text 'hh:mm:ss.fff', or a variable with such a text."""

    delay: str


@dataclass(frozen=True)
class Execute:
    """A procedure call. Arguments: (name or "", expression, whether it is an OUTPUT argument)."""

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
