"""`/v1/purge` and `/v1/doctor`: remove what is too old, find what is wrong."""

from jobfac import settings
from jobfac.api import models
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.doctor.central import examine_database
from jobfac.operations import retention as operations
from jobfac.store.api_keys import Role
from jobfac.store.retention import Keep
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()

PURGE_FOR = 20.0
"""Seconds after which a request to purge returns, although there is more to remove."""


@ENDPOINTS.add("POST", "/v1/purge", role=Role.ADMIN, unrestricted=True, responses={200: models.PurgeResult})
def purge(request: ApiRequest) -> ApiResponse:
    """Remove finished runs and other records after their retention.

    The retention is that of the server's settings. One request works for 20 s at most; `more` says whether to send it
    again.
    """
    done = operations.purge(request.db, request.by, Keep.of(settings.load()), PURGE_FOR)
    return ApiResponse({"removed": done.removed, "more": done.more})


@ENDPOINTS.add("GET", "/v1/doctor", role=Role.OPERATOR, unrestricted=True, responses={200: models.Findings})
def examine(request: ApiRequest) -> ApiResponse:
    """Check the database and the factory, as `jobfac doctor` does on the server."""
    return ApiResponse({"items": all_as_json(examine_database(request.db))})
