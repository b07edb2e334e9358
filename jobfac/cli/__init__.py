"""The command line. It imports the module of a command when the command is used, and commands import what they need
when they run, so that `jobfac --help` and `jobfac start` are fast."""

import errno
import os
import re
import sys
import threading

from typer import Abort, TyperException

from jobfac.cli.listing import Commands
from jobfac.cli.streams import NO_ROOM, NOT_UTF8, discard_output, flush_streams, note, prepare_streams
from jobfac.errors import DONE, UNSUCCESSFUL, USAGE, JobfacError, Kind
from jobfac.machine import threads

COMMANDS = {
    "up": ("roles:up", "Run all roles in one process on the configured database."),
    "worker": ("roles:worker", "Claim and execute runs until TERM or INT."),
    "scheduler": ("roles:scheduler", "Insert due runs, expire dead workers, notify, purge."),
    "api": ("roles:api", "Serve the pages and the HTTP API."),
    "apply": ("jobs:apply", "Apply definitions, all of them or none."),
    "export": ("jobs:export", "Print the stored definitions."),
    "start": ("start:start", "Start a job and print the run's id."),
    "stop": ("duty.controlling:stop", "Stop a run and wait for its end, or stop many."),
    "retry": ("duty.controlling:retry", "Run a finished run again, or many."),
    "hold": ("duty.operating:hold", "Hold a pool, a category, a job or everything: no new starts."),
    "release": ("duty.operating:release", "End a hold."),
    "holds": ("duty.operating:list_holds", "List the active holds."),
    "note": ("duty.operating:note_run", "Write a note about a run."),
    "ack": ("duty.controlling:acknowledge", "Acknowledge failures."),
    "approve": ("duty.operating:approve", "Decide about a step that waits for a person."),
    "logs": ("monitoring.logs:logs", "Show the output of a run, byte for byte."),
    "top": ("monitoring.top:top", "Watch the fleet, the queue and the runs."),
    "doctor": ("monitoring.doctor:doctor", "Check this machine, the database and the factory."),
    "report": ("monitoring.report:report", "Report on the last 30 days: counts, failures, times."),
    "config": ("database:config", "Show the settings and where each comes from."),
    "purge": ("database:purge", "Remove finished runs that are older than their job's retention."),
    "try": ("dry_run:command", "Run a program as a worker would, without a database."),
    "jobs": ("jobs:app", "List, show, enable, delete, compare, roll back and call jobs."),
    "runs": ("runs:app", "List and show runs."),
    "workers": ("workers:app", "List and drain workers, or cancel a drain."),
    "schedule": ("schedules:app", "List, preview, pause and resume schedules."),
    "sequence": ("sequences:app", "Simulate and draw sequences."),
    "import": ("importing:app", "Convert foreign schedules to definitions, on standard output."),
    "keys": ("keys:app", "Create, list and revoke API keys."),
    "notify": ("notify:app", "Test, list and requeue notifications."),
    "db": ("database:app", "Upgrade, check and back up the database."),
    "init": ("init:init", "Create a folder with definitions and settings to start from."),
    "schema": ("init:schema", "Print the JSON Schema of definitions."),
    "help": ("help:help_topic", "Show a page of the guide; without a topic, list the topics."),
}
"""Every command: ``module:attribute`` in ``cli.commands``, and its line in `jobfac --help`."""

app = Commands(
    COMMANDS, help="jobfac, the background job factory: runs console programs as jobs, on a schedule or on demand."
)


def run() -> None:
    """The entry point of a process: calls ``main``, and skips Python's shutdown where that could crash.

    A daemon thread may still wait inside a driver of the database. Python ends it when it comes back during the
    shutdown, which a driver in C++ does not survive: mssql-python ends in SIGABRT or SIGSEGV.
    """
    try:
        main()
    except SystemExit as end:
        flush_streams()
        if threads.are_alive() or any(thread.daemon for thread in threading.enumerate()):
            os._exit(end.code if isinstance(end.code, int) else DONE)
        raise


def main() -> None:
    """Execute the command: every failure becomes one sentence on standard error and an exit code.

    Raises:
        SystemExit: always.
    """
    prepare_streams()
    code: object = DONE
    try:
        code = app.execute(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()  # the reader has closed the pipe
    except OSError as error:
        if error.errno == errno.ENOSPC:
            discard_output()
            note(NO_ROOM)
        elif error.errno == errno.ENOENT and error.filename is None and _is_folder_gone():
            note("The current folder was removed; change to one that exists.")
        else:
            note(f"{error.filename or 'The system'}: {error.strerror or error}.")
        code = UNSUCCESSFUL
    except KeyboardInterrupt as interrupt:
        note(str(interrupt) or "Interrupted.")
        code = 130
    except Exception as error:
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else DONE)


def _is_folder_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - no path is made of it
    except OSError:
        return True
    return False


def _explain(error: Exception) -> int:
    """Print a sentence for an error and return the exit code. An unexpected exception is raised again."""
    if isinstance(error, JobfacError):
        note(str(error))
        return error.exit_code
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)  # usage errors have the context of their command
        command = context.command_path if context else "jobfac"
        message = re.sub(r"^Invalid value for '(.+?)': Input should be ", r"\1 must be ", error.format_message())
        message = message.removesuffix(", unable to parse string as an integer")
        end = "" if message.endswith((".", "?")) else "."
        note(f"{message}{end} `{command} --help` shows how it is used.")
        return USAGE
    if isinstance(error, UnicodeEncodeError) and any("\udc80" <= letter <= "\udcff" for letter in "".join(sys.argv)):
        note(f"The command line {NOT_UTF8}")
        return USAGE
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        note("This user can start no more threads; raise the limit of processes (ulimit -u), or free memory.")
        return Kind.CONFLICT.exit_code
    if isinstance(error, Abort):
        note("Aborted.")
        return UNSUCCESSFUL
    if (said := _said_by_database(error)) is not None:
        note(f"The database answers with an error that jobfac does not know: {said}. Show it to a DBA.")
        return Kind.UNAVAILABLE.exit_code
    raise error


def _said_by_database(error: Exception) -> str | None:
    """Return the text of a database server's error; None: it is another one."""
    loaded = sys.modules.get("sqlalchemy.exc")  # a command without a database does not import it
    if loaded is None or not isinstance(error, loaded.DBAPIError) or "[SQL Server]" not in str(error.orig):
        return None
    return str(error.orig.args[-1] if error.orig is not None and error.orig.args else error.orig).strip().rstrip(".")
