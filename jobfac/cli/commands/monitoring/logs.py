"""`logs`: show or follow the output of a run, or search that of many."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli import completion
from jobfac.cli import selection as s
from jobfac.cli.client import Backend, backend
from jobfac.cli.client.values import Text
from jobfac.cli.common import MAX_ID, NOT_FOUND, USAGE, Json, fail
from jobfac.cli.rendering.printing import Columns, note, print_json, print_list
from jobfac.cli.streams import for_terminal
from jobfac.states import FINAL
from jobfac.views.results.output import LINES, OutputMatch
from jobfac.views.runs import AttemptView, RunView

if TYPE_CHECKING:
    from jobfac.store.history.search import Filter

OneRun = Annotated[
    int | None,
    typer.Argument(min=1, max=MAX_ID, metavar="[RUN]", help="The run's id.", autocompletion=completion.runs),
]

POLL_INTERVAL = 0.2
"""Seconds between two polls of the output of a running program."""


def logs(
    run: OneRun = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Continue until the run ends.")] = False,
    stream: Annotated[str | None, typer.Option(metavar="stdout|stderr", help="Only this stream.")] = None,
    attempt: Annotated[int | None, typer.Option(help="The attempt; default: the latest.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Search the output of many runs for this text, ignoring case.")
    ] = None,
    job: s.Job = None,
    since: s.Since = None,
    until: s.Until = None,
    limit: Annotated[
        int,
        typer.Option(min=1, max=10_000, help=f"With --search: the maximum number of lines, at most {LINES} of a run."),
    ] = 100,
    as_json: Json = False,
) -> None:
    """Show the output of a run, byte for byte.

    With --search, show the lines of many runs that contain a text, those of the newest runs first.
    """
    if search is not None:
        if run is not None or follow:
            fail(USAGE, "--search looks into many runs; give --job and --since instead of a run.")
        _search(s.selection(job=job, since=since, until=until), search, limit, as_json)
        return
    if run is None:
        fail(USAGE, "Give the id of a run, or --search TEXT.")
    _show_run(run, follow, stream, attempt, as_json)


def _search(wanted: "Filter", text: str, limit: int, as_json: bool) -> None:
    with backend() as factory:
        matches = factory.search_output(wanted, text, limit)
    columns: Columns[OutputMatch] = {"RUN": "run", "JOB": "job", "STREAM": "stream", "LINE": "number", "TEXT": "line"}
    print_list(matches, columns, f"the stored output of the selected runs has no line with '{text}'", as_json)
    for run, number in Counter(match.run for match in matches).items():
        if number >= LINES:
            note(f"Only the first {LINES} lines of run {run} are shown; `jobfac logs {run}` shows all that it wrote.")


def _show_run(run: int, follow: bool, stream: str | None, attempt: int | None, as_json: bool) -> None:
    if stream not in (None, "stdout", "stderr"):
        fail(USAGE, f"--stream must be stdout or stderr, not '{stream}'.")
    streams = ["stdout", "stderr"] if stream is None else [stream]
    with backend() as factory:
        history = factory.run(run)
        current = history.run
        number = attempt or max(1, current.attempt)
        if attempt is not None and not any(row.number == attempt for row in history.attempts):
            fail(NOT_FOUND, f"Run {run} has no attempt {attempt}; it has {current.attempt}.")
        if as_json:
            while follow and current.state not in FINAL:
                current = factory.wait(run, 1.0)
            number = attempt or max(1, current.attempt)
            print_json(_document(factory, run, number, streams))
            return
        if current.kind == "sequence":
            note(f"Run {run} is a sequence; the runs of its jobs have the output: `jobfac runs show {run}` lists them.")
        _note_files(history.attempts, number, streams)
        if follow:
            follow_run(factory, current, streams, attempt)
        else:
            positions = dict.fromkeys(streams, 0)
            while _show(factory, run, number, positions):
                pass


def _document(factory: Backend, run: int, attempt: int, streams: list[str]) -> dict[str, Any]:
    positions = dict.fromkeys(streams, 0)
    texts = dict.fromkeys(streams, b"")
    while pieces := factory.output(run, attempt, positions):
        for piece in pieces:
            texts[piece.stream] += _bytes(piece)
    return {"run": run, "attempt": attempt} | {name: text.decode(errors="replace") for name, text in texts.items()}


def _note_files(attempts: Sequence[AttemptView], number: int, streams: list[str]) -> None:
    for attempt in attempts:
        paths = {"stdout": attempt.stdout_path, "stderr": attempt.stderr_path}
        for stream in streams:
            if attempt.number == number and paths[stream]:
                note(f"The {stream} of attempt {number} goes to {paths[stream]} on {attempt.worker}.")


def _show(factory: Backend, run: int, attempt: int, positions: dict[str, int], aside: bool = False) -> bool:
    pieces = factory.output(run, attempt, positions)
    for piece in pieces:
        target = sys.stderr if aside or piece.stream == "stderr" else sys.stdout
        data = _bytes(piece)
        target.buffer.write(for_terminal(data) if target.isatty() else data)
    sys.stdout.flush()
    sys.stderr.flush()
    return bool(pieces)


def _bytes(piece: Text) -> bytes:
    from jobfac.store.output import cut_mark

    return cut_mark(piece.skipped) + piece.data


def follow_run(
    factory: Backend,
    run: RunView,
    streams: list[str] | None = None,
    attempt: int | None = None,
    aside: bool = False,
) -> RunView:
    """Show the output of one attempt after another until the run is final. ``aside``: all of it on standard error."""
    number, positions = 0, {"": 0}
    while True:
        # The state is read before the output, so that all output before the end is shown.
        run = factory.wait(run.id, 0)
        final = run.state in FINAL
        for current in [attempt] if attempt is not None else range(max(1, number), run.attempt + 1):
            if current != number:
                number, positions = current, dict.fromkeys(streams or ["stdout", "stderr"], 0)
            while _show(factory, run.id, number, positions, aside):
                pass
        if final or (attempt is not None and run.attempt > attempt):
            return run
        time.sleep(POLL_INTERVAL)
