"""Reports on what ran: ``facts`` reads what they rest on, the functions of ``REPORTS`` shape it, ``page`` shows it all.

They read the statistics by day and add what has ended since these were made, so a long history costs them nothing and
its purge takes nothing away. Days are UTC; a run belongs to the day on which it ended.
"""

from jobfac.reports.facts import EARLIEST, Facts, Period, facts, period
from jobfac.reports.history import job_history
from jobfac.reports.page import page
from jobfac.reports.rows import Kind, Report
from jobfac.reports.shaping import REPORTS

__all__ = ["EARLIEST", "REPORTS", "Facts", "Kind", "Period", "Report", "facts", "job_history", "page", "period"]
