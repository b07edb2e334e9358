"""`top`: the fleet, the queue and the runs as they stand, again and again."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import settings

if TYPE_CHECKING:
    from rich.console import Console

    from jobfac.views.overview import Overview

LOOK = 0.2
"""Seconds between two looks at the keyboard, the terminal's size and what has been read."""

LATE = 3.0
"""Seconds after which an answer that has not come is worth a word."""


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks at the factory.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="One frame, and that is it; without a terminal always so.")
    ] = False,
) -> None:
    """Watch the fleet, the queue and the runs; q leaves."""
    from rich.console import Console

    from jobfac.cli.rendering.frame import draw

    console = Console(highlight=False)
    with backend() as factory:
        if once or not console.is_terminal or console.is_dumb_terminal:
            console.print(draw(factory.overview(), _source(), console.width, None))
        else:
            _watch(console, factory.overview, interval)


def _source() -> str:
    """Where the picture is from."""
    import sqlalchemy as sa

    found = settings()
    return found.api_url or sa.make_url(found.database_url).render_as_string(hide_password=True).partition("?")[0]


def _watch(console: "Console", read: "Callable[[], Overview]", interval: float) -> None:
    """Show frame after frame until the user leaves."""
    from rich.live import Live

    from jobfac.cli.rendering.frame import draw
    from jobfac.cli.rendering.rows import span

    looks: SimpleQueue[Overview | str] = SimpleQueue()
    # A thread of its own: keys are answered while the database does not.
    threading.Thread(target=_look, args=(read, interval, looks), name="looking", daemon=True).start()
    overview: Overview | None = None
    trouble, since, source, size = "", time.monotonic(), _source(), None
    signal.signal(signal.SIGTERM, _leave)
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while not pressed(LOOK):
                found = _newest(looks)
                if isinstance(found, str):
                    trouble = found
                elif found is not None:
                    overview, trouble, since = found, "", time.monotonic()
                age = time.monotonic() - since
                late = trouble or ("no answer yet" if age > interval + LATE else "")
                if found is not None or late or size != console.size:
                    size = console.size
                    told = f"{'' if overview is None else f'{span(age)} old: '}{late}" if late else ""
                    live.update(draw(overview, source, size.width, size.height, told), refresh=True)
        except KeyboardInterrupt:
            return


def _leave(number: int, frame: object) -> NoReturn:
    """On a signal: by way of everything that gives the terminal back."""
    raise SystemExit(128 + number)


def _look(read: "Callable[[], Overview]", interval: float, looks: "SimpleQueue[Overview | str]") -> None:
    """Read again and again; whatever fails is told and tried again."""
    while True:
        try:
            looks.put(read())
        except Exception as error:  # a driver may raise anything while its database goes away
            looks.put(" ".join(str(getattr(error, "orig", None) or error).split()))
        time.sleep(interval)


def _newest(looks: "SimpleQueue[Overview | str]") -> "Overview | str | None":
    found = None
    while not looks.empty():
        found = looks.get()
    return found


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Gives a function that waits so many seconds for a q on the keyboard, without echo or a line's end."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(keyboard)

    def pressed(seconds: float) -> bool:
        ready, _, _ = select.select([keyboard], [], [], seconds)
        return bool(ready) and b"q" in os.read(keyboard, 100).lower()

    try:
        tty.setcbreak(keyboard)
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
