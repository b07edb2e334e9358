"""The modules of the pages; ``ALL`` is their route table."""

from jobfac.web.pages import (
    audit,
    fleet,
    job,
    jobs,
    load,
    login,
    notifications,
    now,
    operating,
    reports,
    start,
    start_urls,
    timeline,
)
from jobfac.web.pages.documents import docs, guide
from jobfac.web.pages.history import many, run, runs

ALL = (
    *now.PAGES,
    *runs.PAGES,
    *many.PAGES,
    *run.PAGES,
    *jobs.PAGES,
    *job.PAGES,
    *start.PAGES,
    *start_urls.PAGES,
    *load.PAGES,
    *timeline.PAGES,
    *fleet.PAGES,
    *reports.PAGES,
    *notifications.PAGES,
    *audit.PAGES,
    *guide.PAGES,
    *docs.PAGES,
    *operating.PAGES,
    *login.PAGES,
)
"""All pages and form actions."""
