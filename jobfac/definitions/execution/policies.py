"""When a run is retried, how many run at once, and how long ended runs are kept."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from jobfac.control_characters import REFUSED
from jobfac.definitions.values import (
    Duration,
    Many,
    Model,
    PositiveDuration,
    decimal,
    read_word,
    whole,
    write_duration,
)


def _read_short(value: Any) -> str:
    text = read_word(value)
    length = len(text.encode("utf-16-le")) // 2  # SQL Server counts UTF-16 code units
    if length > 128:
        raise ValueError(f"must be at most 128 characters, not {length}")
    return text


Short = Annotated[
    str,
    PlainValidator(
        _read_short, json_schema_input_type=Annotated[str, Field(max_length=128, pattern=rf"^[^{REFUSED}]*$")] | int
    ),
    Field(title="text"),
]
"""Text of at most 128 characters. ``checks`` refuses control characters, which a stored definition may have."""


class Retry(Model):
    """When a failed attempt is retried. The n-th retry waits ``delay * backoff ** (n - 1)`` seconds, at most
    ``maximum_delay``, varied by a random share of up to ``jitter``."""

    attempts: Annotated[int, whole(1, 1000)] = Field(
        default=1, description="The maximum number of attempts, including the first one."
    )
    delay: Duration = Field(default=10.0, description="The delay before the first retry.")
    backoff: Annotated[float, decimal(1, 100)] = Field(
        default=2.0, description="The factor by which each delay is longer than the previous one."
    )
    maximum_delay: Duration = Field(default=600.0, description="The longest delay.")
    jitter: Annotated[float, decimal(0, 1)] = Field(
        default=0.1, description="The share by which a delay varies at random."
    )
    on: Many[Literal["failed", "timed_out", "start_failed"]] = Field(
        default=("failed", "timed_out"), description="The outcomes that are retried."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.delay > self.maximum_delay:
            longest = write_duration(self.maximum_delay)
            raise ValueError(f"has a delay longer than its maximum_delay ({longest}); raise maximum_delay")
        return self


class Concurrency(Model):
    """At most ``limit`` runs at a time of all jobs that share the ``key``."""

    limit: Annotated[int, whole(1, 100_000)] = Field(default=1, description="The maximum number of runs at a time.")
    key: Short = Field(description="The name of the limit. Jobs with the same key share it.", examples=["ledger"])


class Retention(Model):
    """How long finished runs are kept: until they are older than ``age`` or ``count`` newer ones exist."""

    age: PositiveDuration | None = Field(
        default=None, description="Keep a run for this time after its end.", examples=["30d"]
    )
    count: Annotated[int, whole(1, 1_000_000_000)] | None = Field(
        default=None, description="The maximum number of finished runs to keep.", examples=[1000]
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow a duration in place of the mapping."""
        return {"anyOf": [{"type": ["string", "number"], "title": "duration"}, handler(core)]}

    @model_validator(mode="before")
    @classmethod
    def _from_age(cls, value: Any) -> Any:
        return {"age": value} if isinstance(value, str | int | float) else value

    @model_serializer(mode="wrap")
    def _to_age(self, write: SerializerFunctionWrapHandler) -> Any:
        written = write(self)
        return written["age"] if set(written) == {"age"} else written

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.age is None and self.count is None:
            raise ValueError("must have age (such as 30d) or count")
        return self
