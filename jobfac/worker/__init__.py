"""The worker role: claims runs, executes their programs and stores the outcomes."""

from jobfac.worker.worker import Worker

__all__ = ["Worker"]
