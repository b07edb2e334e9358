"""The dead man's switch: a URL that is called each minute while the factory works.

Schedulers that are dead send nothing, so somebody outside has to notice that the calls have stopped.
"""

import threading

from jobfac.channels import DeliveryError, webhook
from jobfac.machine import threads
from jobfac.settings import Settings
from jobfac.telemetry.logs import logger

log = logger("jobfac.heartbeat")

INTERVAL = 60.0
"""Seconds between two calls."""


class Heartbeat:
    """Calls the configured URL in a thread of its own, so that a slow receiver delays no duty."""

    def __init__(self, settings: Settings, scheduler: str) -> None:
        self._settings = settings
        self._log = log.bind(scheduler=scheduler)
        self._call_lasts = threading.Lock()

    @property
    def is_wanted(self) -> bool:
        """Whether there is a URL to call."""
        return bool(self._settings.heartbeat_url)

    def beat(self) -> float:
        """Begin a call, unless the last one still waits for its answer. Returns the seconds until the next one."""
        if self._call_lasts.acquire(blocking=False):
            try:
                threads.begin(self._call)
            except RuntimeError:
                self._call_lasts.release()
                raise
        return INTERVAL

    def _call(self) -> None:
        try:
            webhook.call(self._settings.heartbeat_url, self._settings)
        except DeliveryError as error:
            self._log.warning("the heartbeat did not arrive", action="heartbeat_failed", reason=str(error))
        except Exception as error:  # its text may hold the URL, which is secret
            self._log.warning("the heartbeat did not arrive", action="heartbeat_failed", reason=type(error).__name__)
        finally:
            self._call_lasts.release()
