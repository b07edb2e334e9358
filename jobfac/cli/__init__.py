"""The command line: the only place where the parts are put together. A command's module is imported when the command
is used, and what it works with inside the command, so that `jobfac --help` and a start are quick."""

import errno
import os
import re
import sys

from typer import Abort, TyperException

from jobfac.cli import common
from jobfac.cli.listing import Commands
from jobfac.cli.rendering.printing import note
from jobfac.errors import JobfacError

COMMANDS = {
    "up": ("roles:up", "All roles in one process, on the configured database."),
    "worker": ("roles:worker", "Claim and execute runs until TERM or INT."),
    "scheduler": ("roles:scheduler", "Insert due runs, notice dead workers, purge what is old."),
    "api": ("roles:api", "Serve the HTTP API."),
    "apply": ("jobs:apply", "Apply definitions, whole or not at all."),
    "export": ("jobs:export", "Print definitions as they are in force."),
    "start": ("start:start", "Start a job and print the run's id."),
    "stop": ("runs:stop", "Stop a run, wait for its end, and say what happened."),
    "retry": ("runs:retry", "Run a finished run again."),
    "approve": ("approve:approve", "Decide about a step that waits for a person."),
    "logs": ("monitoring.logs:logs", "Show what a run's program wrote, byte for byte."),
    "top": ("monitoring.top:top", "Watch the fleet, the queue and the runs."),
    "doctor": ("monitoring.doctor:doctor", "Check this machine, the database and the factory."),
    "report": ("monitoring.report:report", "What ran in the last 30 days: counts, failures, times."),
    "config": ("database:config", "What holds here, and where it came from."),
    "purge": ("database:purge", "Remove finished runs that are older than their job's retention."),
    "try": ("dry_run:command", "Run a program as a worker would, with no database."),
    "jobs": ("jobs:app", "Definitions of jobs and sequences."),
    "runs": ("runs:app", "What ran, runs, and will run."),
    "workers": ("workers:app", "The fleet."),
    "schedule": ("schedules:app", "When jobs are due."),
    "sequence": ("sequences:app", "Sequences: where they would go, and how they look."),
    "import": ("schedules:import_app", "Definitions from elsewhere, on standard output."),
    "keys": ("keys:app", "Keys of the API."),
    "notify": ("notify:app", "Notifications."),
    "db": ("database:app", "The database's schema."),
    "init": ("init:init", "Write a first folder: definitions, settings and their schema."),
    "schema": ("init:schema", "Print the JSON Schema of definitions, for editors."),
    "help": ("help:help_topic", "Show a page of the guide; without a topic, list the topics."),
}
"""Every command: its module in ``cli.commands``, its function or group there, and its line in `jobfac --help`."""

app = Commands(
    COMMANDS, help="jobfac, the background job factory: runs console programs as jobs, on a schedule or on demand."
)


def main() -> None:
    """The entry point: every failure becomes one sentence on standard error and an exit code."""
    common.prepare_streams()
    try:
        code = app.act(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; nothing more is to be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = common.DONE
    except OSError as error:
        if error.errno == errno.ENOSPC:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            note("There is no room for the output: the disk is full.")
        else:
            note(f"{error.filename or 'The system'}: {error.strerror or error}.")
        code = common.UNSUCCESSFUL
    except KeyboardInterrupt:
        note("Interrupted.")
        code = 130
    except Exception as error:
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else common.DONE)


def _explain(error: Exception) -> int:
    """Say in a sentence what went wrong and return the exit code. What is a bug goes on as a traceback."""
    if isinstance(error, JobfacError):
        note(str(error))
        return error.exit_code
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)  # errors of usage know the command that they concern
        used = context.command_path if context else "jobfac"
        said = re.sub(r"^Invalid value for '(.+?)': Input should be ", r"\1 must be ", error.format_message())
        said = said.removesuffix(", unable to parse string as an integer")
        end = "" if said.endswith((".", "?")) else "."
        note(f"{said}{end} `{used} --help` shows how it is used.")
        return common.USAGE
    if isinstance(error, UnicodeEncodeError) and any("\udc80" <= letter <= "\udcff" for letter in "".join(sys.argv)):
        note(f"The command line {common.NO_TEXT}")
        return common.USAGE
    if isinstance(error, Abort):
        note("Aborted.")
        return common.UNSUCCESSFUL
    raise error
