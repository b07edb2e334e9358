"""`logs`: show or follow the output of a run."""

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from jobfac.cli.client import Backend, backend
from jobfac.cli.client.protocol import Text
from jobfac.cli.common import NOT_FOUND, USAGE, Json, RunId, fail
from jobfac.cli.rendering.printing import note, print_json
from jobfac.states import FINAL
from jobfac.views.runs import AttemptView, RunView

POLL_INTERVAL = 0.2
"""Seconds between two polls of the output of a running program."""


def logs(
    run: RunId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Continue until the run ends.")] = False,
    stream: Annotated[str | None, typer.Option(metavar="stdout|stderr", help="Only this stream.")] = None,
    attempt: Annotated[int | None, typer.Option(help="The attempt; default: the latest.")] = None,
    as_json: Json = False,
) -> None:
    """Show the output of a run, byte for byte."""
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
        target.buffer.write(_bytes(piece))
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
