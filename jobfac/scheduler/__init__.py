"""The scheduler role: inserts due runs, expires dead workers, delivers notifications, and purges old runs."""

from jobfac.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
