"""The command line: the only place where the parts are put together. Imports happen inside commands, so that
`jobfac --help` and a start are quick."""

import os
import sys

import typer
from typer._click import ClickException

from jobfac.cli import common, fleet, jobs, runs
from jobfac.cli import database as database_commands
from jobfac.cli import keys as key_commands
from jobfac.cli import notify as notify_commands
from jobfac.cli import schedules as schedule_commands
from jobfac.cli import sequences as sequence_commands

app = typer.Typer(
    help="jobfac, the background job factory: runs console programs as jobs, on a schedule or on demand.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    fleet.up, fleet.worker, fleet.scheduler, fleet.api,
    jobs.apply, jobs.export,
    runs.start, runs.stop, runs.retry, runs.logs,
    database_commands.config, database_commands.purge,
):  # fmt: skip
    app.command()(command)
for name, commands in {
    "jobs": jobs.app,
    "runs": runs.app,
    "workers": fleet.app,
    "schedule": schedule_commands.app,
    "sequence": sequence_commands.app,
    "import": schedule_commands.import_app,
    "keys": key_commands.app,
    "notify": notify_commands.app,
    "db": database_commands.app,
}.items():
    app.add_typer(commands, name=name)


def main() -> None:
    """The entry point: every failure becomes one sentence on standard error and an exit code."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; nothing more is to be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = common.DONE
    except KeyboardInterrupt:
        common.note("Interrupted.")
        code = 130
    except Exception as error:
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else common.DONE)


def _explain(error: Exception) -> int:
    """Say in a sentence what went wrong and return the exit code. What is a bug goes on as a traceback."""
    if isinstance(error, common.Failure):
        common.note(str(error))
        return error.code
    if isinstance(error, ClickException):
        common.note(f"{error.format_message().rstrip('.')}. `jobfac --help` shows how it is used.")
        return common.USAGE
    if isinstance(error, typer.Abort):
        common.note("Aborted.")
        return common.UNSUCCESSFUL
    from jobfac.database import Unreachable
    from jobfac.definitions import DefinitionError
    from jobfac.process import StartError
    from jobfac.runs import NotFound, Refused
    from jobfac.settings import SettingsError

    codes: dict[type[Exception], int] = {
        Unreachable: common.UNREACHABLE,
        NotFound: common.NOT_FOUND,
        Refused: common.REFUSED,
    }
    codes |= {DefinitionError: common.USAGE, SettingsError: common.USAGE, StartError: common.UNSUCCESSFUL}
    for kind, code in codes.items():
        if isinstance(error, kind):
            common.note(str(error))
            return code
    raise error
