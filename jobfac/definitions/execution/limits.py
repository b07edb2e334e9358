"""Limits of memory, CPU and processes of a program."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from jobfac.definitions.values import Model, decimal, form, read_size, shown, whole, write_size


def _read_memory(value: Any) -> int:
    size = read_size(value)
    if size < 1 << 20:
        raise ValueError(f"must be at least 1MiB, not {shown(value)}")
    return size


Memory = Annotated[int, *form(_read_memory, write_size, "size", str | Annotated[int, Field(ge=1 << 20)], str | int)]


class Limits(Model):
    """Limits of a program with everything that it starts, kept by the kernel (cgroup v2). A worker that cannot keep
    them does not start the program."""

    memory: Memory | None = Field(
        default=None, description="A run that exceeds the limit is killed and ends as failed.", examples=["2GiB"]
    )
    cpu: Annotated[float, decimal(0.01, 1024)] | None = Field(
        default=None, description="How many processors it may use; at the limit it is slowed down.", examples=[1.5]
    )
    processes: Annotated[int, whole(1, 4_194_304)] | None = Field(
        default=None, description="How many processes and threads it may have; others do not start.", examples=[200]
    )

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.memory is None and self.cpu is None and self.processes is None:
            raise ValueError("must have memory, cpu or processes")
        return self
