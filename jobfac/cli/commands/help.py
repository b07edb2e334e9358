"""`help`: print a page of the guide."""

import sys
from typing import Annotated

import typer

from jobfac.cli.common import NOT_FOUND, fail
from jobfac.cli.rendering.printing import print_text
from jobfac.guide import TOPICS, page, summary


def help_topic(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="A topic; default: list the topics.")] = None,
) -> None:
    """Show a page of the guide; without a topic, list the topics."""
    if topic is None:
        width = max(map(len, TOPICS))
        for name in TOPICS:
            typer.echo(f"{name:<{width}}  {summary(name)}")
        typer.echo("\n`jobfac help TOPIC` shows a page, `jobfac COMMAND -h` the help of a command.")
        return
    name = topic.lower()
    if name not in TOPICS:
        fail(NOT_FOUND, _unknown(topic))
    text = page(name)
    if not sys.stdout.isatty():
        print_text(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, 100))


def _unknown(topic: str) -> str:
    """Return the error for an unknown topic. It suggests a similar topic, or the help of a command with this name."""
    from jobfac.cli import COMMANDS
    from jobfac.definitions.values import suggestion

    if topic in COMMANDS:
        return f"There is no help topic '{topic}'; `jobfac {topic} --help` shows how the command is used."
    hint = suggestion(topic.lower(), TOPICS)
    return f"There is no help topic '{topic}'{f'{hint} ' if hint else '; '}`jobfac help` lists the topics."
