"""The worker role: claims runs, executes their programs and stores the outcomes."""

from jobfac.worker.lease import lock_wait
from jobfac.worker.worker import Worker

__all__ = ["Worker", "lock_wait"]
