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

MODULES = (
    now, runs, many, run, jobs, job, start, start_urls, load, timeline, fleet, reports, notifications, audit, guide,
    docs, operating, login,
)  # fmt: skip

ALL = tuple(page for module in MODULES for page in module.PAGES)
"""All pages and form actions."""
