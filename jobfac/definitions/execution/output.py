"""The destinations of a program's output."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator

from jobfac.definitions.values import Model, Size, read_word, shown, whole


class Destination(Model):
    """The destination of a stream: "database", "none", or a file on the worker. Each run overwrites the file at
    ``path``, appends to it, or creates one with its start time in place of the ``*``."""

    kind: Literal["none", "database", "overwrite", "append", "timestamped"]
    path: str | None = None


def _read_destination(value: Any) -> Destination:
    if isinstance(value, Destination):
        return value
    if value in ("none", "database"):
        return Destination(kind=value)
    if isinstance(value, dict) and len(value) == 1:
        kind, path = next(iter(value.items()))
        if kind in ("overwrite", "append", "timestamped"):
            path = read_word(path)
            if kind == "timestamped" and path.rpartition("/")[2].count("*") != 1:
                raise ValueError(f"must have one * in the name of the file, in place of the time, not {shown(path)}")
            return Destination(kind=kind, path=path)
    raise ValueError(
        f"must be none, database, {{overwrite: PATH}}, {{append: PATH}} or {{timestamped: PATH}}, not {shown(value)}"
    )


def _write_destination(destination: Destination) -> str | dict[str, str]:
    return destination.kind if destination.path is None else {destination.kind: destination.path}


_ToFile = Annotated[dict[Literal["overwrite", "append", "timestamped"], str], Field(min_length=1, max_length=1)]

Stream = Annotated[
    Destination,
    PlainValidator(_read_destination, json_schema_input_type=Literal["none", "database"] | _ToFile),
    PlainSerializer(_write_destination, return_type=str | dict[str, str]),
]


class Rotate(Model):
    """When an appended file is rotated, and how many rotated files are kept."""

    size: Size = Field(default=10 * 2**20, description="The size at which an appended file is rotated.")
    keep: Annotated[int, whole(0, 1000)] = Field(default=5, description="The number of rotated files to keep.")


class Output(Model):
    """The destinations of the two streams of a program."""

    stdout: Stream = Field(
        default=Destination(kind="database"),
        description="none, database, or a file on the worker that each run overwrites, appends to, or creates with "
        "its start time in place of the *.",
        examples=[{"timestamped": "logs/export-*.log"}],
    )
    stderr: Stream = Field(
        default=Destination(kind="database"),
        description="The same for standard error.",
        examples=[{"append": "logs/x.err"}],
    )
    limit: Size = Field(
        default=2**20, description="The size that the database keeps of each stream of an attempt: its head and tail."
    )
    rotate: Rotate = Field(default=Rotate(), description="For append: when the file is rotated.")
