"""start, stop, retry, logs, and `runs list / show`."""

import json
import sys
import time
from typing import Annotated, Any

import typer

from jobfac.cli.backend import Backend, Text, backend
from jobfac.cli.common import (
    NOT_FOUND,
    REFUSED,
    UNSUCCESSFUL,
    USAGE,
    Json,
    fail,
    group,
    instant,
    lasted,
    note,
    print_fields,
    print_json,
    print_table,
    seconds,
    state,
)
from jobfac.states import FINAL, RunState

app = group("What ran, runs, and will run.")

FOLLOW = 0.2
"""Seconds between two looks at the output of a running program."""


def start(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    argument: Annotated[
        list[str] | None, typer.Option(help="An argument in place of the definition's; repeat.")
    ] = None,
    payload: Annotated[str | None, typer.Option(help="Text handed to the program; `-` reads standard input.")] = None,
    priority: Annotated[int | None, typer.Option(min=-1000, max=1000, help="Higher first.")] = None,
    delay: Annotated[str | None, typer.Option("--in", metavar="10m", help="Start after this long.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="Start at this time.")] = None,
    key: Annotated[str | None, typer.Option(help="The same key gives the same run, however often.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Start so many runs.")] = 1,
    arguments_of: Annotated[
        list[str] | None, typer.Option(metavar="JOB=JSON", help="Of a sequence: a job's arguments; repeat.")
    ] = None,
    payload_of: Annotated[
        list[str] | None, typer.Option(metavar="JOB=TEXT", help="Of a sequence: a job's payload; repeat.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 0 only if it succeeded.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Wait, and show the output as it comes.")] = False,
    as_json: Json = False,
) -> None:
    """Start a job and print the run's id."""
    if delay is not None and at is not None:
        fail(USAGE, "--in and --at exclude each other; give one of them.")
    if count > 1 and (key is not None or follow):
        fail(
            USAGE, f"--count cannot be combined with {'--key' if key is not None else '--follow'}; start one at a time."
        )
    wish: dict[str, Any] = {"arguments": argument or None, "priority": priority}
    wish["payload"] = sys.stdin.read() if payload == "-" else payload
    wish["delay"] = None if delay is None else seconds(delay, "--in")
    wish["at"] = None if at is None else instant(at, "--at")
    if overrides := _overrides(arguments_of or [], payload_of or []):
        wish["overrides"] = overrides
    with backend() as factory:
        runs = factory.start(job, wish, key, count)
        if as_json and not wait:
            print_json(runs if count > 1 else runs[0])
        elif not as_json and not follow:
            typer.echo("\n".join(str(run["id"]) for run in runs))
        for run in runs:
            if run["state"] == RunState.DENIED:
                fail(REFUSED, f"Run {run['id']} of job '{job}' was denied: {run['reason']}.")
        if follow:
            runs = [_follow(factory, runs[0])]
        elif wait:
            runs = _wait(factory, runs)
        if as_json and (wait or follow):
            print_json(runs if count > 1 else runs[0])
        if wait or follow:
            _judge(runs)


def _overrides(arguments_of: list[str], payload_of: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in arguments_of:
        job, _, text = pair.partition("=")
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = None
        if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
            fail(
                USAGE,
                f"--arguments-of must be JOB=JSON with a list of texts, such as extract='[\"--full\"]', not '{pair}'.",
            )
        found.setdefault("arguments", {})[job] = arguments
    for pair in payload_of:
        job, separator, text = pair.partition("=")
        if not separator:
            fail(USAGE, f"--payload-of must be JOB=TEXT, not '{pair}'.")
        found.setdefault("payloads", {})[job] = text
    return found


def _wait(factory: Backend, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wait for the end of all, with a line of progress on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    done: list[dict[str, Any]] = []
    with console.status("waiting") as status:
        for run in runs:
            while run["state"] not in FINAL:
                told = "".join(f" {run[key]}" for key in ("message",) if run.get(key))
                told += f" {run['progress']:.0%}" if run.get("progress") is not None else ""
                status.update(f"run {run['id']} is {run['state']}, {len(done)} of {len(runs)} done{told}")
                run = factory.wait(run["id"], 1.0)
            done.append(run)
    return done


def _judge(runs: list[dict[str, Any]]) -> None:
    bad = [run for run in runs if run["state"] != RunState.SUCCEEDED]
    for run in bad[:10]:
        note(f"Run {run['id']} of job '{run['job']}' ended {run['state']}: {run['reason'] or 'no reason was given'}.")
    if bad:
        raise typer.Exit(UNSUCCESSFUL)


def stop(
    run: Annotated[int, typer.Argument(help="The run's id.")],
    now: Annotated[bool, typer.Option("--now", help="Kill at once, without the job's grace.")] = False,
    patience: Annotated[float, typer.Option("--patience", help="Seconds to wait for its end.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Stop a run, wait for its end, and say what happened."""
    with backend() as factory:
        asked = factory.stop(run, now)
        ended = factory.wait(run, patience)
        if as_json:
            print_json(ended)
        elif asked["before"] in FINAL:
            note(f"Run {run} had already ended: {asked['before']}.")
        elif ended["state"] in FINAL:
            typer.echo(
                f"run {run} was {asked['before']} and is now {ended['state']}: {ended['reason'] or ''}".rstrip(": ")
            )
        if ended["state"] not in FINAL:
            fail(
                UNSUCCESSFUL,
                f"Run {run} was asked to stop and is still {ended['state']} after {patience:g} s; its worker obeys "
                "when it can, or its lease's expiry settles it.",
            )


def retry(
    run: Annotated[int, typer.Argument(help="The run's id.")],
    from_failed: Annotated[bool, typer.Option("--from-failed", help="Of a sequence: go on from what failed.")] = False,
    as_json: Json = False,
) -> None:
    """Run a finished run again, with the same arguments and payload: a new run."""
    with backend() as factory:
        new = factory.retry(run, from_failed)
    print_json(new) if as_json else typer.echo(new["id"])


def logs(
    run: Annotated[int, typer.Argument(help="The run's id.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends.")] = False,
    stream: Annotated[str | None, typer.Option(metavar="stdout|stderr", help="Only this stream.")] = None,
    attempt: Annotated[int | None, typer.Option(help="Which execution; default: the latest.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a run's program wrote, byte for byte."""
    if stream not in (None, "stdout", "stderr"):
        fail(USAGE, f"--stream must be stdout or stderr, not '{stream}'.")
    streams = ["stdout", "stderr"] if stream is None else [stream]
    with backend() as factory:
        found = factory.run(run)
        number = attempt or max(1, found["attempt"])
        if attempt is not None and not any(row["number"] == attempt for row in found["attempts"]):
            fail(NOT_FOUND, f"Run {run} has no attempt {attempt}; it has {found['attempt']}.")
        if as_json:
            print_json(_whole(factory, run, number, streams))
            return
        _tell_files(found, number, streams)
        if follow:
            _follow(factory, found, streams, attempt)
        else:
            positions = dict.fromkeys(streams, 0)
            while _show(factory, run, number, positions):
                pass


def _whole(factory: Backend, run: int, attempt: int, streams: list[str]) -> dict[str, Any]:
    positions = dict.fromkeys(streams, 0)
    texts = dict.fromkeys(streams, b"")
    while pieces := factory.output(run, attempt, positions):
        for piece in pieces:
            texts[piece.stream] += _bytes(piece)
    return {"run": run, "attempt": attempt} | {name: text.decode(errors="replace") for name, text in texts.items()}


def _tell_files(run: dict[str, Any], number: int, streams: list[str]) -> None:
    for row in run["attempts"]:
        for stream in streams:
            if row["number"] == number and row[f"{stream}_path"]:
                note(f"The {stream} of attempt {number} goes to {row[f'{stream}_path']} on {row['worker']}.")


def _show(factory: Backend, run: int, attempt: int, positions: dict[str, int]) -> bool:
    pieces = factory.output(run, attempt, positions)
    for piece in pieces:
        target = sys.stderr if piece.stream == "stderr" else sys.stdout
        target.buffer.write(_bytes(piece))
    sys.stdout.flush()
    sys.stderr.flush()
    return bool(pieces)


def _bytes(piece: Text) -> bytes:
    from jobfac.output import cut_mark

    return cut_mark(piece.skipped) + piece.data


def _follow(
    factory: Backend, run: dict[str, Any], streams: list[str] | None = None, attempt: int | None = None
) -> dict[str, Any]:
    """Show output until the run is final, attempt after attempt."""
    number, positions = 0, {"": 0}
    while True:
        # First the state, then the output: what came before the end is shown before we leave.
        run = factory.wait(run["id"], 0)
        over = run["state"] in FINAL
        for current in [attempt] if attempt is not None else range(max(1, number), run["attempt"] + 1):
            if current != number:
                number, positions = current, dict.fromkeys(streams or ["stdout", "stderr"], 0)
            while _show(factory, run["id"], number, positions):
                pass
        if over or (attempt is not None and run["attempt"] > attempt):
            return run
        time.sleep(FOLLOW)


@app.command("list")
def list_runs(
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    states: Annotated[list[str] | None, typer.Option("--state", help="Only runs in this state; repeat.")] = None,
    since: Annotated[str | None, typer.Option(help="Only runs started since this time, or so long ago (2h).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> None:
    """Runs, newest first."""
    for word in states or []:
        if word not in list(RunState):
            fail(USAGE, f"--state must be one of {', '.join(RunState)}, not '{word}'.")
    moment = None if since is None else instant(since, "--since", back=True).isoformat()
    with backend() as factory:
        found = factory.runs({"job": job, "state": states or [], "since": moment, "limit": limit})
    if as_json:
        print_json(found)
        return
    columns = {
        "RUN": "id", "JOB": "job", "STATE": state, "TRY": "attempt", "STARTED": "started_at", "TOOK": lasted,
        "EXIT": "exit_code", "WORKER": "worker", "WHY": _why,
    }  # fmt: skip
    print_table(found, columns, "no runs")


def _why(run: Any) -> str:
    from rich.markup import escape

    if run["state"] in ("running", "stopping") and run.get("progress") is not None:
        return escape(f"{run['progress']:.0%} {run.get('message') or ''}")
    return escape(run["reason"] or run["exit_message"] or run["message"] or "")


@app.command("show")
def show_run(run: Annotated[int, typer.Argument(help="The run's id.")], as_json: Json = False) -> None:
    """One run with its attempts and everything that happened to it; of a sequence the path that it took."""
    with backend() as factory:
        found = factory.run(run)
    if as_json:
        print_json(found)
        return
    print_fields(found, [key for key in found if key not in ("attempts", "events", "path")])
    typer.echo("")
    columns = {"TRY": "number", "STATE": _attempt_state, "STARTED": "started_at", "TOOK": lasted, "PID": "pid",
               "WORKER": "worker", "EXIT": "exit_code", "SIGNAL": "signal", "WHY": "reason"}  # fmt: skip
    if found["attempts"]:
        print_table(found["attempts"], columns, "")
        typer.echo("")
    print_table(found["events"], {"WHEN": "at", "TRY": "attempt", "WHAT": "event", "BY": "by", "DETAIL": "detail"}, "")
    if found.get("path"):
        from rich.console import Console

        from jobfac.cli.sequences import tree

        typer.echo("")
        Console().print(tree(found))


def _attempt_state(row: Any) -> str:
    return state(row) if row["state"] else "running"
