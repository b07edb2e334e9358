"""Models of request bodies, queries and headers."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from jobfac.api.moments import Duration as Duration
from jobfac.api.moments import Moment as Moment
from jobfac.api.moments import Until
from jobfac.database.tables import KEY_LENGTH
from jobfac.definitions import Notify
from jobfac.states import RunState
from jobfac.store.history.search import Filter
from jobfac.store.runs.drafting import RECIPIENTS

Plain = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""Text without NUL characters, which an argument of a program cannot contain."""


def read_whole(value: Any) -> Any:
    """Return a whole number that JSON writes as 3.0 as 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(read_whole)
RunNumber = Annotated[int, Field(ge=1, lt=10**18), Whole]
Word = Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\x00]*$")]
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
POSITION = "[1-9][0-9]{0,8}:[0-9]{1,15}:[0-9]{1,15}"
Position = Annotated[str, Field(pattern=f"^{POSITION}$")]
"""``attempt:stdout:stderr``: a position in the output, in bytes from the start of each stream."""


class FirstMistake(FailFast):
    """Of a list, only the first mistake is described: a description takes a hundred times the memory of an entry."""

    __hash__ = object.__hash__  # as unions of types need it


Texts = Annotated[list[Plain], FirstMistake()]


def _read_arguments(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:  # its text lists the errors of both forms
        raise ValueError("must be a list of texts; for a sequence an object with such a list by job id") from None


LONGEST_LIST = 100
"""The maximum number of entries of a list in ``notify``."""


def _with_short_lists(value: Any) -> Any:
    """Return what ``notify`` is, without its mistakes of any other kind being looked for if a list is very long."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list) and len(one) > LONGEST_LIST:
            raise ValueError(f"has a list of {len(one):,} entries; {LONGEST_LIST} are the most")
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return value


Scalar = Plain | int | float | bool
ParameterValue = Scalar | Annotated[list[Scalar], FirstMistake()] | None
"""A value of a parameter; null: its default."""

CHOICES = 20
"""The maximum number of states, and of parameters, that a request may ask for."""

Pair = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}=[^\x00]*$")]
"""NAME=VALUE."""


class Parameters(BaseModel):
    """A query or headers. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid")


def _no_null_default(schema: dict[str, Any]) -> None:
    """Change the JSON Schema of a model: null is no default where it is refused (``given``)."""
    for field in schema.get("properties", {}).values():
        takes_null = {"type": "null"} in field.get("anyOf", ()) or not {"type", "anyOf"} & field.keys()
        if field.get("default", "") is None and not takes_null:
            del field["default"]


class Body(BaseModel):
    """A request body. Unknown names are errors, and types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_no_null_default)


def given(name: str, otherwise: str) -> Any:
    """Return a validator of a field of a body: null is refused, because a variable without a value must not mean all.

    ``otherwise``: the remedy.
    """

    def check(value: Any) -> Any:
        if value is None:
            raise ValueError(f"{name} is null; {otherwise}")
        return value

    return field_validator(name)(check)


class StartBody(Body):
    """Overrides for one run of the job.

    ``delay`` (seconds, or a text such as 10m) and ``at`` exclude each other. For a sequence ``arguments`` and
    ``payloads`` are by job id, and ``from_step`` names the step to begin with.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"arguments": ["--full"], "payload": "42", "priority": 10, "delay": 60}],
            "not": {
                "required": ["delay", "at"],
                "properties": {"delay": {"type": ["number", "string"]}, "at": {"type": "string"}},
            },
        }
    )

    arguments: Annotated[Texts | dict[JobId, Texts] | None, WrapValidator(_read_arguments)] = None
    payload: Plain | None = None
    payloads: dict[JobId, Plain] | None = None
    parameters: dict[str, ParameterValue] | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000), Whole] | None = None
    delay: Duration | None = None
    at: Moment | None = None
    notify: Annotated[list[Notify], Field(max_length=RECIPIENTS), BeforeValidator(_with_short_lists)] | None = None
    from_step: Word | None = None

    @model_validator(mode="after")
    def _one_time(self) -> "StartBody":
        if self.delay is not None and self.at is not None:
            raise ValueError("has both delay and at; give one of them")
        return self


class StopBody(Body):
    """``now``: kill the program at once, without the job's grace period."""

    now: bool = False


class ApproveBody(Body):
    """``approved``: false rejects, and the step fails. ``reason`` is shown with the run. ``parameters``: values for
    which the step asks. ``number``: which visit of the step, as the run's path says; without it, the latest."""

    approved: bool = True
    number: Annotated[int, Field(ge=1, le=2**31 - 1), Whole] | None = None
    parameters: dict[str, ParameterValue] | None = None
    reason: Annotated[Plain, Field(max_length=1000)] | None = None


class RetryBody(Body):
    """``from_failed``: a sequence continues from the step that failed, without what succeeded there. ``parameters``:
    replace the former values."""

    from_failed: bool = False
    parameters: dict[str, ParameterValue] | None = None


EVERYTHING = "leave it out, and leave out all three of pool, category and job to hold everything"


class HoldBody(Body):
    """What is held: at most one of ``pool``, ``category`` and ``job``; none of them: everything.

    ``until``: a time, or how long from now, such as 2h.
    """

    pool: Plain | SkipJsonSchema[None] = None
    category: Plain | SkipJsonSchema[None] = None
    job: JobId | SkipJsonSchema[None] = None
    reason: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]
    until: Until | None = None

    _named_pool = given("pool", EVERYTHING)
    _named_category = given("category", EVERYTHING)
    _named_job = given("job", EVERYTHING)


class NoteBody(Body):
    """``acknowledge``: of a failure, acknowledge it, too."""

    text: Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
    acknowledge: bool = False


class RollbackBody(Body):
    """``version``: the one to return to."""

    version: Annotated[int, Field(ge=1, lt=2**31), Whole]


class PageQuery(Parameters):
    limit: int = Field(500, ge=1, le=500, description="The maximum number of items in a page.")
    cursor: str | None = Field(None, pattern=r"^[1-9][0-9]{0,17}$", description="`next_cursor` of the previous page.")

    @property
    def after(self) -> int | None:
        """The id after which the page begins."""
        return None if self.cursor is None else int(self.cursor)


class HoldsQuery(PageQuery):
    all: bool = Field(False, description="Also those that have ended.")


class RunFields(BaseModel):
    """Which runs. A field that is not given matches all runs."""

    job: Word | None = Field(None, description="Only runs of this job.")
    state: list[RunState] = Field([], max_length=CHOICES, description="Only runs in one of these states.")
    category: Word | None = Field(None, description="Only runs of jobs that have this category now.")
    worker: Word | None = Field(None, description="Only runs whose last worker had this name.")
    since: Moment | None = Field(None, description="Only runs that were created at this time or later.")
    until: Moment | None = Field(None, description="Only runs that were created before this time.")
    sequence_run_id: RunNumber | None = Field(None, description="Only runs of this sequence run.")
    key: Word | None = Field(None, description="Only runs that were started with this key.")
    text: Word | None = Field(
        None, description="Only runs with this text in the job, the reason, a message or the key, ignoring case."
    )

    parameter: list[Pair] = Field(
        [],
        max_length=CHOICES,
        description="Only runs with this value of a parameter, NAME=VALUE; may be repeated.",
    )

    unacknowledged: bool = Field(False, description="Only failures that nobody has acknowledged.")

    def wanted(self) -> Filter:
        """The filter in the form of the store."""
        fields = {name: getattr(self, name) for name in RunFields.model_fields if name not in ("state", "parameter")}
        pairs = tuple(pair.partition("=")[::2] for pair in self.parameter)
        return Filter(**fields, states=self.state, parameters=pairs)


class RunFilter(PageQuery, RunFields):
    limit: int = Field(50, ge=1, le=500, description="The maximum number of runs in a page.")


class OutputSearchQuery(Parameters):
    text: Word = Field(description="The text that a line contains, ignoring case.")
    job: Word | None = Field(None, description="Only output of this job's runs.")
    since: Moment | None = Field(None, description="Only output of runs that were created at this time or later.")
    until: Moment | None = Field(None, description="Only output of runs that were created before this time.")
    limit: int = Field(100, ge=1, le=1000, description="The maximum number of lines in a page.")
    cursor: str | None = Field(None, pattern=r"^[1-9][0-9]{0,17}$", description="`next_cursor` of the previous page.")


class RunQuery(Parameters):
    wait: float = Field(0.0, ge=0, le=60, description="The maximum seconds to wait until the run is final.")
    masked: bool = Field(False, description="Mask the values of sensitive parameters for operators, too.")


class OutputQuery(Parameters):
    stream: Literal["stdout", "stderr"] | None = Field(
        None, description="The stream; default: stdout as text, otherwise both."
    )
    attempt: int | None = Field(None, ge=1, lt=10**9, description="The attempt; default: the latest.")
    offset: int = Field(0, ge=0, lt=10**15, description="Bytes from the start of `stream`, or of stdout.")
    after: Position | None = Field(None, description="Continue after this `position`, instead of `offset`.")
    seconds: float | None = Field(None, ge=0, le=86400, description="End the event stream after this many seconds.")
    whole: bool = Field(False, description="As text: all of the stream that is stored, and not its next 4 MiB.")


class EventsQuery(Parameters):
    job: str | None = Field(None, description="Only events of this job's runs.")
    after: int | None = Field(None, ge=0, lt=10**18, description="Resume after this event, instead of Last-Event-ID.")
    seconds: float | None = Field(None, ge=0, le=86400, description="End the stream after this many seconds.")


class WorkersQuery(Parameters):
    all: bool = Field(False, description="Include workers that have exited or died.")


class SchedulesQuery(Parameters):
    job: str | None = Field(None, description="Only schedules of this job.")


class PreviewQuery(Parameters):
    job: str = Field(description="The job with the schedules.", examples=["orders-export"])
    count: int = Field(10, ge=1, le=200, description="The number of due times.")
    start: Moment | None = Field(None, alias="from", description="Due times after this; default: now.")
    explain: bool = Field(False, description="Include times that do not fire, with the reason.")


class LoadQuery(Parameters):
    days: int = Field(7, ge=1, le=31, description="The number of days.")


class JobsQuery(Parameters):
    limit: int = Field(100, ge=1, le=500, description="The maximum number of jobs in a page.")
    cursor: str | None = Field(None, min_length=1, max_length=128, description="`next_cursor` of the previous page.")


class KeyHeaders(Parameters):
    key: str | None = Field(
        None, alias="Idempotency-Key", min_length=1, max_length=KEY_LENGTH, pattern=r"^[\x21-\x7e]+$",
        description="Requests with the same key return the same run.",
    )  # fmt: skip


class ChangeHeaders(Parameters):
    if_match: str | None = Field(None, alias="If-Match", description="Only if the job has this ETag.")


class PutHeaders(ChangeHeaders):
    if_none_match: str | None = Field(
        None, alias="If-None-Match", pattern=r"^\*$", description="`*`: only if the job does not exist."
    )


class FollowHeaders(Parameters):
    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        pattern=rf"^({POSITION})?$",
        description="Resume after this event; empty: from the beginning.",
    )


class EventsHeaders(Parameters):
    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        pattern=r"^[0-9]{0,18}$",
        description="Resume after this event; empty: from now on.",
    )
