"""The scheduler role: inserts due runs, expires dead workers, purges, and delivers notifications."""

from jobfac.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
