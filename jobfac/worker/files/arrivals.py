"""Decides which of the files that scans find are complete and new. Pure: the clock is an argument."""

from collections.abc import Collection, Iterable, Mapping

from jobfac.store.schedules import ArrivedFile
from jobfac.store.schedules.arriving import REPORTED_AGAIN
from jobfac.worker.files.scanning import Seen

REFUSED = 600.0
"""Seconds until a file whose start was refused is tried again."""


class Arrivals:
    """The files of one pattern: since when each has not changed, and which were handled. Used by one thread."""

    def __init__(self, stable: float) -> None:
        """``stable``: how long a file must not have changed, in seconds."""
        self._stable = stable
        self._since: dict[str, tuple[Seen, float]] = {}
        self._handled: dict[str, Seen] = {}
        self._not_before: dict[str, float] = {}
        self._forget_at: float | None = None

    def observe(self, found: Mapping[str, Seen], now: float) -> list[ArrivedFile]:
        """Take the result of a scan at ``now`` (seconds); return the files that are complete and not handled."""
        if self._forget_at is not None and now >= self._forget_at:
            self.forget()
        for known in (self._since, self._handled, self._not_before):
            for path in known.keys() - found.keys():
                del known[path]
        ready = []
        for path, seen in found.items():
            if self._handled.get(path) == seen:
                continue
            if path not in self._since or self._since[path][0] != seen:
                self._since[path] = seen, now
                self._not_before.pop(path, None)
            if now >= self._ready_at(path):
                ready.append(ArrivedFile(path, seen.size, seen.modified // 10**9))
        return ready

    def _ready_at(self, path: str) -> float:
        return max(self._since[path][1] + self._stable, self._not_before.get(path, 0.0))

    def next_at(self) -> float | None:
        """Return when the next file may be complete; None: none is waited for."""
        return min((self._ready_at(path) for path in self._since if not self._is_handled(path)), default=None)

    def _is_handled(self, path: str) -> bool:
        return self._handled.get(path) == self._since[path][0]

    def handle(self, files: Iterable[ArrivedFile], keys: Collection[str], now: float) -> None:
        """Record that those of these files whose keys are given need no more attention."""
        for file in files:
            if file.key in keys:
                self._handled[file.path] = self._since[file.path][0]
        self._forget_at = now + REPORTED_AGAIN if self._forget_at is None else self._forget_at

    def forget(self) -> None:
        """Report the files that were handled once more."""
        self._handled, self._forget_at = {}, None

    def postpone(self, files: Iterable[ArrivedFile], until: float) -> None:
        """Report these files again, but not before ``until``."""
        for file in files:
            self._not_before[file.path] = until
