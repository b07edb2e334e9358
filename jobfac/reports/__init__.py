"""Reports about past runs: ``facts`` reads the data, the functions of ``REPORTS`` compute rows, ``page`` renders HTML.

Reports read the daily statistics and add the runs that are not counted there yet. So a long history costs nothing, and
a purge removes nothing from a report. Days are UTC; a run belongs to the day on which it ended.
"""

from jobfac.reports.facts import EARLIEST, Facts, Period, facts, period
from jobfac.reports.history import job_history
from jobfac.reports.page import page
from jobfac.reports.rows import Kind, Report
from jobfac.reports.shaping import REPORTS

__all__ = ["EARLIEST", "REPORTS", "Facts", "Kind", "Period", "Report", "facts", "job_history", "page", "period"]
