"""The worker role: claims runs, executes their programs and stores what became of them."""

from jobfac.worker.worker import Worker

__all__ = ["Worker"]
