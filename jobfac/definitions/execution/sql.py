"""A job that runs a SQL script instead of a program."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jobfac.definitions.notify import Secret
from jobfac.definitions.values import Model, PositiveDuration, Word

Isolation = Literal["read uncommitted", "read committed", "repeatable read", "snapshot", "serializable"]

ONLY_FOR_COMMANDS = ("shell", "arguments", "success_codes", "warning_codes", "encoding", "aware")
"""Keys about starting and judging a program. A script must not have them."""


class Sql(Model):
    """A script, as ``text`` or in a ``file``, for a database that SQLAlchemy reaches."""

    connection: Secret = Field(
        description="A reference to the database's URL; the URL itself is not stored.",
        examples=[{"secret": "env:DW_URL"}],
    )
    database: Word | None = Field(
        default=None, description="The database on that server. Without it: the one in the URL.", examples=["dw"]
    )
    text: Word | None = Field(default=None, description="The script.", examples=["EXEC dbo.refresh"])
    file: Word | None = Field(
        default=None, description="The script's file on the worker, relative to directory.", examples=["sql/load.sql"]
    )
    on_error: Literal["stop", "continue"] = Field(
        default="stop",
        description="After a batch that failed: end, or go on with the next batch. Either way the run ends as failed.",
    )
    timeout: PositiveDuration | None = Field(
        default=None, description="Cancel a batch that runs longer; it counts as failed.", examples=["10m"]
    )
    isolation: Isolation | None = Field(
        default=None, description="The isolation level of the connection. Without it: the server's default."
    )
    result: Literal["rows", "json", "none"] = Field(
        default="rows", description="How result sets are written: as aligned text, as lines of JSON, or not at all."
    )

    @model_validator(mode="after")
    def _one_script(self) -> Self:
        if (self.text is None) == (self.file is None):
            raise ValueError("must have exactly one of text and file")
        return self
