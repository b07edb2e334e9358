"""The thread that watches for files. It starts when there is something to watch for, anywhere in the factory.

It decides and writes to the database; the threads of ``lanes`` look into the folders.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial

from jobfac.database.engine import Database
from jobfac.machine.threads import begin
from jobfac.settings import Settings
from jobfac.telemetry.logs import logger
from jobfac.worker.files.events import FolderEvents, folder_events
from jobfac.worker.files.files import RETRY, Files
from jobfac.worker.files.lanes import Lanes

log = logger("jobfac.files")


class FileWatcher:
    """Watches for the files of the pools of one worker.

    All fields are written by the thread that calls ``noticed``; those that the own thread reads, before it begins.
    """

    def __init__(self, db: Database, settings: Settings, worker: str, pools: Sequence[str]) -> None:
        self._make = partial(Files, db, settings, worker, pools)
        self._log = log.bind(worker=worker)
        self._number = 0
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._gone = threading.Event()  # its thread has ended
        self._events: FolderEvents | None = None
        self._lanes: Lanes | None = None

    def noticed(self, number: int) -> None:
        """Take the number of a survey that changes with what there is to watch for; 0: nothing."""
        if number == self._number:
            return
        self._number = number
        self._changed.set()
        if self._events is not None:
            self._events.wake()
            return
        events = folder_events()
        lanes = Lanes(events)
        try:
            begin(self._run, self._make(lanes), events)
        except RuntimeError as error:  # the machine refuses threads; the next survey tries again
            self._number = 0
            events.close()
            self._log.warning("cannot watch for files, retrying", action="watch_failed", reason=str(error))
            return
        self._events, self._lanes = events, lanes

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        if self._events is None or self._lanes is None:
            return
        self._events.wake()
        self._gone.wait(1.0)
        if self._lanes.close() and self._gone.is_set():  # a folder that hangs may use the events later
            self._events.close()

    def _run(self, files: Files, events: FolderEvents) -> None:
        while not self._ended.is_set():
            try:
                self._turn(files, events)
            except Exception:  # without this thread nobody would notice the files
                self._log.exception("cannot watch for files", action="watch_failed")
                self._ended.wait(RETRY)
        self._gone.set()

    def _turn(self, files: Files, events: FolderEvents) -> None:
        if self._changed.is_set():
            self._changed.clear()
            files.read_at = 0.0
        pause = None
        if self._number:
            began = time.monotonic()
            pause = files.turn(began, self._ended.is_set) - (time.monotonic() - began)
            events.remove(files.take_left())
        files.happened(events.wait(pause), time.monotonic())
