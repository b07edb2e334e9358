"""`/v1/overview`: how the factory stands, in one answer."""

from jobfac.api import models
from jobfac.api.auth import RETRY_FOR
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.store import overview
from jobfac.views.serialization import as_json


def get_overview(ask: ApiRequest) -> Answer:
    """Show how the factory stands.

    Live workers, queued runs by pool, runs under way, the latest that ended, and the schedules that are due next. A key
    that is limited to categories sees the runs and schedules of their jobs, and all workers.
    """
    return Answer(as_json(ask.service.db.query(overview.read, ask.caller.categories, retry_for=RETRY_FOR)))


ENDPOINTS = (Endpoint(method="GET", path="/v1/overview", handler=get_overview, answers={200: models.Overview}),)
