"""The top-level group of commands. The module of a command is imported when the command is used."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group, get_install_completion_arguments

from jobfac.errors import JobfacError, Kind


class UsageHelp(JobfacError):
    """A group was called without a command. The message is the group's help."""

    kind = Kind.INVALID


class Group(TyperGroup):
    """A group of commands. Without a command, it raises ``UsageHelp``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the group."""
        if not args and not ctx.resilient_parsing:
            raise UsageHelp(ctx.get_help())
        return super().parse_args(ctx, args)


PLAIN: dict[str, Any] = {
    "cls": Group,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
}
"""The arguments of every ``Typer``. Help is plain text: importing rich takes longer than the rest of `--help`."""

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
"""All commands inherit these."""


class Commands(Group):
    """The top-level group.

    ``table``: by name, ``module:attribute`` in ``cli.commands`` (a function, a group or a command) and a line of help.
    """

    def __init__(self, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        listed = {name: Listed(name, target, line) for name, (target, line) in table.items()}
        super().__init__(
            name="jobfac", commands=dict(listed), params=list(get_install_completion_arguments()),
            rich_markup_mode=None, context_settings=HELP_OPTIONS, **options,
        )  # fmt: skip

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the command that the arguments name."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.loaded if isinstance(command, Listed) else command, rest

    def execute(self, words: list[str]) -> Any:
        """Execute a command line and return the exit code; None: 0. Exceptions are not caught."""
        if "_JOBFAC_COMPLETE" in os.environ:  # the shell asks for completions
            return self.main(words, prog_name="jobfac", standalone_mode=False)
        if words == ["--version"]:
            from importlib.metadata import version

            typer.echo(f"jobfac {version('jobfac')}")
            return None
        try:
            with self.make_context("jobfac", words) as ctx:
                return self.invoke(ctx)
        except typer.Exit as end:
            return end.exit_code


class Listed(TyperCommand):
    """A command that is not imported yet: its name and help, for the list, completion and suggestions."""

    def __init__(self, name: str, target: str, line: str) -> None:
        super().__init__(name, help=line, rich_markup_mode=None)
        self._target = target

    @cached_property
    def loaded(self) -> TyperCommand | TyperGroup:
        """The command, imported.

        Raises:
            TypeError: the target is not a command.
        """
        from jobfac.cli import examples

        module, _, attribute = self._target.partition(":")
        found = getattr(import_module(f"jobfac.cli.commands.{module}"), attribute)
        if isinstance(found, typer.Typer):
            found = get_group(found)
        elif not isinstance(found, TyperCommand | TyperGroup):
            single = typer.Typer(**PLAIN)
            single.command(self.name)(found)
            found = get_command(single)
        if not isinstance(found, TyperCommand | TyperGroup):
            raise TypeError(f"{self._target} is not a command.")
        examples.attach(found, self.name or "")
        _name_values(found)
        return found


VALUES = {
    "<int>": "N", "<int range>": "N", "<list[int]>": "N", "<float>": "NUMBER", "<float range>": "NUMBER",
    "<str>": "TEXT", "<list[str]>": "TEXT", "<path>": "PATH", "<file>": "FILE", "<list[Path]>": "PATH",
}  # fmt: skip
"""What the help calls a value of a type that typer names by its Python type."""


def _name_values(command: TyperCommand | TyperGroup) -> None:
    """Let the help of a command, or of each command of a group, name values in plain words."""
    for below in command.commands.values() if isinstance(command, TyperGroup) else [command]:
        for parameter in below.params:
            if (typed := getattr(parameter, "display_type", None)) is not None:
                setattr(parameter, "display_type", partial(_named, typed))  # noqa: B010 - replaces a method


def _named(typed: Callable[[Any], str], context: Any) -> str:
    kind = typed(context)
    return VALUES.get(kind, kind)
