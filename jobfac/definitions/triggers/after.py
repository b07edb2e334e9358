"""A start after another job: which ends of which jobs count."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from jobfac.definitions.values import Id, Many, Model
from jobfac.states import FINAL, RunState

End = Literal["succeeded", "mixed", "failed", "stopped", "timed_out", "start_failed", "lost", "denied", "finished"]
"""A final state of a run; ``finished`` is any of them."""


class Upstream(Model):
    """A job whose ends count."""

    job: Id = Field(description="The job that must have ended.", examples=["extract"])
    on: Many[End] = Field(
        default=("succeeded",), description="How it must have ended: states of a run; finished is any of them."
    )

    @property
    def states(self) -> frozenset[RunState]:
        """The final states that count."""
        if "finished" in self.on:
            return FINAL
        return frozenset(RunState(word) for word in self.on)


class After(Model):
    """The jobs after which a job starts: one, all of several, or any of several."""

    all: Annotated[tuple[Upstream, ...], Field(min_length=1)] | None = Field(
        default=None, description="Start one run when each of these jobs has ended since the last start."
    )
    any: Annotated[tuple[Upstream, ...], Field(min_length=1)] | None = Field(
        default=None, description="Start a run for each end of any of these jobs."
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One job may stand for the mapping."""
        return {"anyOf": [{"$ref": "#/$defs/Upstream"}, handler(core)]}

    @model_validator(mode="before")
    @classmethod
    def _from_one(cls, value: Any) -> Any:
        if isinstance(value, dict) and value and not set(value) & {"all", "any"}:
            return {"any": [value]}
        return value

    @model_serializer(mode="wrap")
    def _to_one(self, write: SerializerFunctionWrapHandler) -> Any:
        written = write(self)
        entries: list[Any] = list(written.get("any") or ())
        return entries[0] if set(written) == {"any"} and len(entries) == 1 else written

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.all is None) == (self.any is None):
            raise ValueError("must have a job, or all or any with a list of jobs")
        names = [one.job for one in self.upstream]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"names the job '{twice}' twice; name it once, with all states in its on")
        return self

    @property
    def upstream(self) -> tuple[Upstream, ...]:
        """The jobs, in order."""
        return self.all or self.any or ()


assert set(get_args(End)) == {*map(str, FINAL), "finished"}
