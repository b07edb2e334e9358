"""`make demo`: runs real jobs and a sequence on SQLite; exits with 0 only if all outcomes are as expected.

It runs the commands of a user: `jobfac db upgrade`, `apply`, two `worker`s and a `scheduler`, `start`, `runs list`.
Commands run in this process, because dozens of new interpreters would take most of the time; roles have their own.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from jobfac.cli import main as main_of_jobfac

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".build" / "demo"
LIMIT = 300.0
"""Seconds after which the demo gives up."""

EXPECTED: dict[str, tuple[str, int]] = {
    "archive-docs": ("succeeded", 1),
    "find-usr": ("succeeded", 1),
    "compile-package": ("succeeded", 1),
    "load-csv": ("succeeded", 1),
    "count-words": ("succeeded", 1),
    "fails": ("failed", 1),
    "flaky": ("succeeded", 3),
    "too-slow": ("timed_out", 1),
    "floods": ("succeeded", 1),
    "warns": ("succeeded", 1),
    "not-there": ("start_failed", 1),
    "with-payload": ("succeeded", 1),
    "nightly-close": ("mixed", 1),
    "nightly-regions": ("succeeded", 1),
}
"""The expected final state and number of attempts of each job."""

FINAL = {"succeeded", "mixed", "failed", "stopped", "timed_out", "start_failed", "lost", "denied"}
COLOURS = {"succeeded": "green", "mixed": "yellow", "running": "cyan", "queued": "dim"}

console = Console(file=sys.stdout)


class RoleEnded(Exception):
    """A worker or the scheduler has ended too early. The text says why."""


def jobfac(*words: str) -> str:
    """Run one command as a user would; returns its output.

    Raises:
        SystemExit: it failed; it has said why on standard error.
    """
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape", write_through=True)
    sys.argv = ["jobfac", *words]
    with contextlib.redirect_stdout(output):
        try:
            main_of_jobfac()
        except SystemExit as ended:
            if ended.code:
                raise
    output.seek(0)
    return output.read()


def command() -> str:
    """The path of this environment's `jobfac` command."""
    return str(Path(sys.executable).with_name("jobfac"))


def runs() -> dict[int, dict[str, Any]]:
    """All runs by id, oldest first."""
    found: list[dict[str, Any]] = json.loads(jobfac("runs", "list", "--limit", "200", "--json"))
    return {run["id"]: run for run in reversed(found)}


def table(found: dict[int, dict[str, Any]]) -> Table:
    """A table of the runs and their states."""
    made = Table("run", "job", "state", "try", "exit", "why", box=None, header_style="bold")
    for run in found.values():
        job = ("  " if run["sequence_run_id"] else "") + run["job"]
        note = run["reason"] or run["exit_message"] or run["message"] or ""
        if run["state"] == "running" and run["progress"] is not None:
            note = f"{run['progress']:.0%} {note}"
        colour = COLOURS.get(run["state"], "red")
        code = "" if run["exit_code"] is None else str(run["exit_code"])
        made.add_row(str(run["id"]), job, f"[{colour}]{run['state']}[/]", str(run["attempt"]), code, note)
    return made


def check(found: dict[int, dict[str, Any]], started: dict[str, int]) -> list[str]:
    """One sentence for each deviation from the expectations."""
    wrong = []
    for job, (state, attempts) in EXPECTED.items():
        run = found[started[job]]
        if (run["state"], run["attempt"]) != (state, attempts):
            wrong.append(f"{job} ended {run['state']} at attempt {run['attempt']}, not {state} at {attempts}")
    children = {run["job"]: run for run in found.values() if run["sequence_run_id"] == started["nightly-close"]}
    path = {"load-csv", "archive-docs", "check-accounts", "check-balance", "repair-balance", "close-day"}
    if set(children) != path:
        wrong.append(f"the sequence ran {sorted(children)}, not {sorted(path)}")
    regions = [run for run in found.values() if run["sequence_run_id"] == started["nightly-regions"]]
    after = next((run["id"] for run in found.values() if run["job"] == "follow-up"), 0)
    if sum(run["job"] == "load-region" for run in regions) != 6:
        wrong.append(f"nightly-regions ran {sorted(run['job'] for run in regions)}, not load-region six times")
    publish = next((run["id"] for run in regions if run["job"] == "publish"), 0)
    outputs = {
        "publish": (publish, "published [200, 200, 200, 200, 400, 400] of"),
        "follow-up": (after, f"after run {started['nightly-regions']} of nightly-regions, which succeeded"),
        "load-region, masked": (regions[1]["id"] if len(regions) > 1 else 0, "with *****"),
        "close-day of the sequence": (children.get("close-day", {"id": 0})["id"], "closed with 100000 rows"),
        "with-payload": (started["with-payload"], "forty-two"),
        "floods, head": (started["floods"], "0000000 x"),
        "floods, tail": (started["floods"], "0999999 x"),
        "floods, cut": (started["floods"], "bytes cut"),
        "archive-docs": (started["archive-docs"], "docs.tar.gz"),
    }
    wrong += [f"{what}: '{text}' is not in its output" for what, (run, text) in outputs.items() if not has(run, text)]
    return wrong


def has(run: int, text: str) -> bool:
    """Whether the output of a run contains the text."""
    return run > 0 and text in jobfac("logs", str(run))


def main() -> int:
    """Run the demo; returns the exit code. Every failure becomes a sentence."""
    try:
        return demo()
    except KeyboardInterrupt:
        console.print("Interrupted; the demo's roles have ended.")
        return 130
    except subprocess.CalledProcessError as error:
        name = " ".join(["jobfac", *error.cmd[1:]])
        console.print(f"`{name}` failed: {error.stderr.strip()}", markup=False)
    except RoleEnded as error:
        console.print(str(error), markup=False)
    except OSError as error:
        console.print(f"The demo cannot write {error.filename or FOLDER}: {error.strerror}.", markup=False)
    return 1


def demo() -> int:
    """Run the jobs and check them; returns the exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(HERE / "samples" / "programs", FOLDER / "programs")
    os.chdir(FOLDER)
    for name in [name for name in os.environ if name.startswith("JOBFAC_")]:
        del os.environ[name]  # the demo concerns no other database
    os.environ |= {
        "JOBFAC_DATABASE_URL": "sqlite:///demo.db",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    jobfac("db", "upgrade")
    samples = [str(HERE / "samples" / f"{name}.yaml") for name in ("demo", "parameters")]
    console.print(jobfac("apply", *samples), end="")
    with (FOLDER / "roles.log").open("wb") as log:
        words = [
            ["worker", "--name", "one", "--slots", "3"],
            ["worker", "--name", "two", "--slots", "3"],
            ["scheduler"],
        ]
        roles = [subprocess.Popen([command(), *role], stdout=log, stderr=log) for role in words]
    try:
        started = {}
        for job in EXPECTED:
            options = ["--payload", "forty-two"] if job == "with-payload" else []
            started[job] = int(jobfac("start", job, *options))
        found = watch(started["nightly-regions"], roles)
    finally:
        for role in roles:
            role.terminate()
        for role in roles:
            role.wait()
    if any(run["state"] not in FINAL for run in found.values()):
        console.print(f"[red]not done within {LIMIT:.0f} s; the roles' log is {FOLDER / 'roles.log'}[/]")
        return 1
    wrong = check(found, started)
    for one in wrong:
        console.print(f"[red]{one}[/]")
    if wrong:
        console.print(f"[red]{len(wrong)} things are wrong[/]")
        return 1
    console.print(f"\n{len(found)} runs, all as expected. See them in a browser: make demo-up")
    return 0


def approve_when_wanted(run: int) -> bool:
    """Approve the sample's release as soon as it waits for that; whether it did."""
    path = json.loads(jobfac("runs", "show", str(run), "--json"))["path"]
    wanted = any(visit["waits_for"] == "approval" and visit["decision"] is None for visit in path)
    if wanted:
        jobfac("approve", str(run), "release", "--reason", "the demo says so", "--set", "audience=everybody")
    return wanted


def watch(wants_approval: int, roles: list[subprocess.Popen[bytes]]) -> dict[int, dict[str, Any]]:
    """Show the runs until all have ended or the time limit is reached; returns them.

    Raises:
        RoleEnded: a role has ended before.
    """
    end = time.monotonic() + LIMIT
    found = runs()
    approved = False
    # The commands' output is captured here, so Live must not redirect it.
    with Live(table(found), console=console, redirect_stdout=False, redirect_stderr=False) as live:
        while time.monotonic() < end:
            found = runs()
            live.update(table(found))
            approved = approved or approve_when_wanted(wants_approval)
            followed = any(run["job"] == "follow-up" for run in found.values())
            if followed and all(run["state"] in FINAL for run in found.values()):
                break
            if any(role.poll() is not None for role in roles):
                said = [line for line in (FOLDER / "roles.log").read_text().splitlines() if not line.startswith("{")]
                raise RoleEnded(said[-1] if said else f"A role has ended; its log is {FOLDER / 'roles.log'}.")
            time.sleep(0.3)
    return found


if __name__ == "__main__":
    sys.exit(main())
