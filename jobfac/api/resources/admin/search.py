"""`/v1/output`: search the output of many runs."""

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.store.history.output import search_output
from jobfac.store.history.search import Filter
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/output", responses={200: models.OutputLines})
def search_lines(request: ApiRequest, query: parameters.OutputSearchQuery) -> ApiResponse:
    """Search the output of runs, newest first.

    One request reads the output of at most 200 runs: a page may have fewer lines than `limit`, or none, and
    `next_cursor` continues it. Only the first 100 lines of a run are found. They stay together, so a page may also
    have more than `limit`.
    """
    wanted = Filter(
        job=query.job,
        since=query.since,
        until=query.until,
        categories=request.caller.categories,
        below=None if query.cursor is None else int(query.cursor),
    )
    found = request.read(search_output, wanted, query.text, query.limit)
    cursor = None if found.below is None else str(found.below)
    return ApiResponse({"items": all_as_json(found.matches), "next_cursor": cursor})
