"""`top`: a live screen of the fleet, the queue and the runs."""

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

SCREEN_INTERVAL = 0.2
"""Seconds between two checks of the keyboard, the size of the terminal and new results."""

LATE = 3.0
"""Seconds after which the screen says that a result is late."""


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two updates.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame and exit; always so without a terminal.")
    ] = False,
) -> None:
    """Watch the fleet, the queue and the runs. Press q to quit."""
    from rich.console import Console

    from jobfac.cli.rendering.frame import draw

    console = Console(highlight=False)
    with backend() as factory:
        if once or not console.is_terminal or console.is_dumb_terminal:
            console.print(draw(factory.overview(), _source(), console.width, None))
        else:
            _watch(console, factory.overview, interval)


def _source() -> str:
    """Return the URL of the API or of the database, without its password and options."""
    import sqlalchemy as sa

    loaded = settings()
    return loaded.api_url or sa.make_url(loaded.database_url).render_as_string(hide_password=True).partition("?")[0]


def _watch(console: "Console", read: "Callable[[], Overview]", interval: float) -> None:
    """Show frames until the user quits."""
    from rich.live import Live

    from jobfac.cli.rendering.frame import draw
    from jobfac.cli.rendering.rows import span

    results: SimpleQueue[Overview | str] = SimpleQueue()
    # In a thread, so that the screen reacts to keys while the database does not answer.
    threading.Thread(target=_poll, args=(read, interval, results), name="poller", daemon=True).start()
    overview: Overview | None = None
    trouble, since, source, size = "", time.monotonic(), _source(), None
    signal.signal(signal.SIGTERM, _exit)
    with _keyboard() as quit_pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while not quit_pressed(SCREEN_INTERVAL):
                result = _newest(results)
                if isinstance(result, str):
                    trouble = result
                elif result is not None:
                    overview, trouble, since = result, "", time.monotonic()
                age = time.monotonic() - since
                late = trouble or ("no answer yet" if age > interval + LATE else "")
                if result is not None or late or size != console.size:
                    size = console.size
                    warning = f"{'' if overview is None else f'{span(age)} old: '}{late}" if late else ""
                    live.update(draw(overview, source, size.width, size.height, warning), refresh=True)
        except KeyboardInterrupt:
            return


def _exit(number: int, frame: object) -> NoReturn:
    """Handle a signal: raise, so that the context managers restore the terminal."""
    raise SystemExit(128 + number)


def _poll(read: "Callable[[], Overview]", interval: float, results: "SimpleQueue[Overview | str]") -> None:
    """Put an overview, or the text of an error, into the queue after each interval."""
    while True:
        try:
            results.put(read())
        except Exception as error:  # a driver may raise any exception while its database is unreachable
            results.put(" ".join(str(getattr(error, "orig", None) or error).split()))
        time.sleep(interval)


def _newest(results: "SimpleQueue[Overview | str]") -> "Overview | str | None":
    newest = None
    while not results.empty():
        newest = results.get()
    return newest


@contextmanager
def _keyboard() -> Iterator[Callable[[float], bool]]:
    """Return a function that waits up to some seconds for the key q and returns whether it was pressed."""
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
