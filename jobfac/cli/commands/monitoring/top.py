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
    from rich.console import Console, RenderableType

    from jobfac.cli.client import Backend
    from jobfac.cli.rendering.selection import Output, Selection
    from jobfac.views.overview import Overview

    Result = Overview | Output | str

SCREEN_INTERVAL = 0.2
"""Seconds between two checks of the keyboard, the size of the terminal and new results."""

KEPT = 200_000
"""Characters of a run's output that are kept for its end."""

LATE = 3.0
"""Seconds after which the screen says that a result is late."""


def top(
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two updates.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame and exit. This is the default without a terminal.")
    ] = False,
) -> None:
    """Watch the fleet, the queue and the runs. Arrows or j and k choose a run, Enter opens its output, q quits."""
    from rich.console import Console

    from jobfac.cli.rendering.frame import draw

    console = Console(highlight=False)
    with backend() as factory:
        if once or not console.is_terminal or console.is_dumb_terminal:
            console.print(draw(factory.overview(), _source(), console.width, None))
        else:
            _watch(console, factory, interval)


def _source() -> str:
    """Return the URL of the API or of the database, without its password and options."""
    import sqlalchemy as sa

    from jobfac.settings.passwords import without_password

    loaded = settings()
    return (
        without_password(loaded.api_url)
        or sa.make_url(loaded.database_url).render_as_string(hide_password=True).partition("?")[0]
    )


def _watch(console: "Console", factory: "Backend", interval: float) -> None:
    """Show frames until the user quits."""
    from rich.live import Live

    from jobfac.cli.rendering.selection import Selection, react, read_keys

    poller = Poller(factory, interval)
    # In a thread, so that the screen reacts to keys while the database does not answer.
    threading.Thread(target=poller.run, name="poller", daemon=True).start()
    screen, selection, source = Screen(), Selection(), _source()
    signal.signal(signal.SIGTERM, _exit)
    with _keyboard() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                keys = read_keys(pressed(SCREEN_INTERVAL))
                for key in keys:
                    found = react(selection, key, screen.runs(console.size.height))
                    if found is None:
                        return
                    selection = found
                poller.open(selection.opened)
                if screen.take(poller.newest(), interval) or keys or screen.size != console.size:
                    live.update(screen.draw(console, source, selection), refresh=True)
        except KeyboardInterrupt:
            return


def _exit(number: int, frame: object) -> NoReturn:
    """Handle a signal: raise, so that the context managers restore the terminal."""
    raise SystemExit(128 + number)


class Screen:
    """What was read last, and whether it is old."""

    def __init__(self) -> None:
        self.size: object = None
        self._overview: Overview | None = None
        self._output: Output | None = None
        self._trouble, self._since, self._late = "", time.monotonic(), ""

    def take(self, result: "Result | None", interval: float) -> bool:
        """Take a result of the poller; returns whether there is something new to show."""
        from jobfac.views.durations import short_duration
        from jobfac.views.overview import Overview

        if isinstance(result, str):
            self._trouble = result
        elif result is not None:
            self._trouble, self._since = "", time.monotonic()
            if isinstance(result, Overview):
                self._overview = result
            else:
                self._output = result
        age = time.monotonic() - self._since
        late = self._trouble or ("no answer yet" if age > interval + LATE else "")
        known = self._overview is not None
        self._late = f"{f'{short_duration(age)} old: ' if known else ''}{late}" if late else ""
        return result is not None or bool(late)

    def runs(self, height: int) -> list[int]:
        """The ids of the runs on the screen, from the top down."""
        from jobfac.cli.rendering.frame import listed

        return [] if self._overview is None else listed(self._overview, height, self._late)

    def draw(self, console: "Console", source: str, selection: "Selection") -> "RenderableType":
        """Draw the lists, or the output of the opened run."""
        from jobfac.cli.rendering.frame import draw
        from jobfac.cli.rendering.selection import draw_output

        self.size = size = console.size
        opened = selection.opened
        if opened is None:
            return draw(self._overview, source, size.width, size.height, self._late, selection.chosen)
        output = self._output if self._output is not None and self._output.run.id == opened else None
        return draw_output(output, opened, size.height, self._late)


class Poller:
    """Reads the overview, or the output of the opened run, again and again. ``run`` has a thread of its own; the thread
    of the screen writes ``_opened`` and wakes it."""

    def __init__(self, factory: "Backend", interval: float) -> None:
        self._factory = factory
        self._interval = interval
        self._results: SimpleQueue[Result] = SimpleQueue()
        self._wake = threading.Event()
        self._opened: int | None = None

    def open(self, run_id: int | None) -> None:
        """Read this run's output from now on; None: the overview."""
        if run_id != self._opened:
            self._opened = run_id
            self._wake.set()

    def newest(self) -> "Result | None":
        """Return the newest result since the last call."""
        newest = None
        while not self._results.empty():
            newest = self._results.get()
        return newest

    def run(self) -> None:
        """Put a result, or the text of an error, into the queue after each interval."""
        followed: Followed | None = None
        while True:
            opened = self._opened
            self._wake.clear()
            try:
                if opened is None:
                    followed = None
                    self._results.put(self._factory.overview())
                else:
                    if followed is None or followed.run_id != opened:
                        followed = Followed(self._factory, opened)
                    self._results.put(followed.read())
            except Exception as error:  # a driver may raise any exception while its database is unreachable
                self._results.put(" ".join(str(getattr(error, "orig", None) or error).split()))
            self._wake.wait(self._interval)


class Followed:
    """The output of a run: both streams of its last attempt, as far as it was read."""

    def __init__(self, factory: "Backend", run_id: int) -> None:
        self.run_id = run_id
        self._factory = factory
        self._attempt = 0
        self._positions: dict[str, int] = {}
        self._text = ""

    def read(self) -> "Output":
        """Read what was written since, and return the end of it."""
        from jobfac.cli.rendering.selection import Output
        from jobfac.cli.rendering.text import printable

        run = self._factory.run(self.run_id).run
        if run.attempt != self._attempt:
            self._attempt, self._positions, self._text = run.attempt, {"stdout": 0, "stderr": 0}, ""
        if run.attempt:
            while pieces := self._factory.output(self.run_id, run.attempt, self._positions):
                for piece in pieces:
                    self._text += piece.data.decode("utf-8", "replace")
                self._text = self._text[-KEPT:]
        return Output(run, [printable(line) for line in self._text.splitlines()])


@contextmanager
def _keyboard() -> Iterator[Callable[[float], bytes]]:
    """Return a function that waits up to some seconds for keys and returns the bytes that they send."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(keyboard)

    def pressed(seconds: float) -> bytes:
        ready, _, _ = select.select([keyboard], [], [], seconds)
        return os.read(keyboard, 100) if ready else b""

    try:
        tty.setcbreak(keyboard)
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bytes:
    time.sleep(seconds)
    return b""
