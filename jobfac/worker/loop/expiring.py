"""Expire dead workers from the worker's loop."""

from functools import partial

from jobfac.database.engine import Database
from jobfac.errors import Unreachable
from jobfac.programs.children import children
from jobfac.settings import Settings
from jobfac.store import sequences
from jobfac.store.workers import Fenced
from jobfac.telemetry.worker import WorkerTelemetry
from jobfac.worker.loop.database import LoopDatabase
from jobfac.worker.spool_folder import SpoolFolder


def expire_dead(
    database: LoopDatabase, db: Database, spool: SpoolFolder, telemetry: WorkerTelemetry, settings: Settings
) -> bool:
    """Requeue the runs of dead workers. First kill their programs that survive on this machine.

    Returns whether to repeat it soon, because not all could be requeued.
    """
    try:
        database.do(spool.end_fenced)  # those that could not be ended before
        database.do(lambda: spool.clear_dead(db))
        expire = partial(sequences.expire, by=telemetry.worker, poison_attempts=settings.poison_attempts)
        expiry = database.transact(expire, retry_for=1.0)
    except (Unreachable, OSError) as error:
        telemetry.log.outage("cannot expire dead workers", action="expire_failed", reason=str(error))
        return True
    telemetry.expired(expiry)
    if expiry.runs:
        # Those of workers that stand still with their guardians. If their runs start again here, these end first.
        lost = [Fenced(one.token, one.run, one.attempt) for one in expiry.runs]
        try:
            database.do(lambda: spool.end_fenced(lost))
        except OSError as error:
            children.failed(error)
            return True
    return expiry.locked > 0
