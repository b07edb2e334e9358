"""The manual page of all commands, ``jobfac/guide/jobfac.1``, made from the command line itself: `make reference`."""

from collections.abc import Iterator
from importlib.metadata import version

from typer import Context
from typer.core import TyperCommand, TyperGroup

from jobfac.cli import app
from jobfac.cli.examples import EXAMPLES
from jobfac.cli.listing import Listed
from jobfac.guide import TOPICS, summary


def text() -> str:
    """The page, in man's macros."""
    lines = [f'.TH JOBFAC 1 "" "jobfac {version("jobfac")}" "User Commands"', ".SH NAME"]
    lines += ["jobfac \\- run console programs as background jobs", ".SH SYNOPSIS", ".B jobfac", "COMMAND [ARGUMENTS]"]
    lines += [".SH DESCRIPTION", escaped(str(app.help))]
    lines += ["The pages of the guide, which", ".B jobfac help TOPIC", "prints, explain how everything works together."]
    lines.append(".SH COMMANDS")
    for words, command in commands():
        lines += command_lines(words, command)
    lines.append(".SH GUIDE")
    for topic in TOPICS:
        lines += [".TP", f".B jobfac help {topic}", escaped(summary(topic))]
    lines += [".SH EXIT STATUS", "0 done; 1 the run did not succeed, or a problem was found; 2 wrong usage or an"]
    lines += ["invalid definition; 3 not found; 4 refused; 5 no connection to the database or the API."]
    lines += [".SH FILES", ".TP", ".I jobfac.toml", "Settings, in the current folder or where JOBFAC_CONFIG says."]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, TyperCommand]]:
    """Every command with its words."""
    for name, listed in app.commands.items():
        found = listed.loaded if isinstance(listed, Listed) else listed
        below = {f"{name} {word}": one for word, one in found.commands.items()} if isinstance(found, TyperGroup) else {}
        for words, command in (below or {name: found}).items():
            if not isinstance(command, TyperCommand):
                raise TypeError(f"jobfac {words} is not a command.")
            yield words, command


def command_lines(words: str, command: TyperCommand) -> list[str]:
    context = Context(command, info_name=f"jobfac {words}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f".SS {escaped(words)}", f".B jobfac {escaped(words)}", f"{escaped(usage)}", ".PP"]
    lines.append(escaped(" ".join((command.help or "").split())))
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            lines += [".TP", f".B {escaped(record[0])}", escaped(record[1])]
    if examples := EXAMPLES.get(words):
        lines += [".PP", ".nf", *(f"    {escaped(line)}" for line in examples), ".fi"]
    return lines


def escaped(line: str) -> str:
    """The line as man prints it: nothing in it is a macro."""
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line
