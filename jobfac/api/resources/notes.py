"""`/v1/runs/{run}/notes` and `/acknowledge`: what people did about a run."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import notes as operations
from jobfac.operations.caller import visible_run
from jobfac.store import notes
from jobfac.store.api_keys import Role
from jobfac.views.runs import NoteView
from jobfac.views.serialization import all_as_json, as_json

ENDPOINTS = Endpoints()


@ENDPOINTS.add("GET", "/v1/runs/{run:id}/notes", responses={200: models.Notes}, errors=(404,))
def list_notes(request: ApiRequest, run: int, query: parameters.PageQuery) -> ApiResponse:
    """List the notes about a run, oldest first."""

    def read(conn: sa.Connection) -> list[NoteView]:
        visible_run(conn, request.caller, run)
        return notes.of_run(conn, run, query.limit + 1, query.after or 0)

    found = request.read(read)
    cursor = str(found[query.limit - 1].id) if len(found) > query.limit else None
    return ApiResponse({"items": all_as_json(found[: query.limit]), "next_cursor": cursor})


@ENDPOINTS.add("POST", "/v1/runs/{run:id}/notes", role=Role.OPERATOR, responses={201: models.Note}, errors=(404, 409))
def add_note(request: ApiRequest, run: int, body: parameters.NoteBody) -> ApiResponse:
    """Write a note about a run."""
    written = operations.add(request.db, request.by, run, body.text, acknowledge=body.acknowledge)
    return ApiResponse(as_json(written), 201)


@ENDPOINTS.add(
    "POST", "/v1/runs/{run:id}/acknowledge", role=Role.OPERATOR, responses={200: models.Run}, errors=(404, 409)
)
def acknowledge(request: ApiRequest, run: int) -> ApiResponse:
    """Acknowledge a failure.

    The first acknowledgement stays. A later success of the job acknowledges automatically.
    """
    (acknowledged,) = operations.acknowledge(request.db, request.by, [run])
    return ApiResponse(as_json(acknowledged))
