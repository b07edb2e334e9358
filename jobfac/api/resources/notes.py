"""`/v1/runs/{run}/notes` and `/acknowledge`: what people did about a run."""

import sqlalchemy as sa

from jobfac.api import models, parameters
from jobfac.api.auth import RETRY_FOR
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import notes as operations
from jobfac.operations.caller import visible_run
from jobfac.store import notes
from jobfac.store.api_keys import Role
from jobfac.views.notes import NoteView
from jobfac.views.serialization import all_as_json, as_json


def list_notes(ask: ApiRequest) -> Answer:
    """List the notes about a run."""

    def read(conn: sa.Connection) -> list[NoteView]:
        visible_run(conn, ask.caller, ask.path["run"])
        return notes.of_run(conn, ask.path["run"])

    return Answer({"items": all_as_json(ask.service.db.query(read, retry_for=RETRY_FOR))})


def add_note(ask: ApiRequest) -> Answer:
    """Write a note about a run."""
    body: parameters.NoteBody = ask.body
    written = operations.add(ask.service.db, ask.by, ask.path["run"], body.text, acknowledge=body.acknowledge)
    return Answer(as_json(written), 201)


def acknowledge(ask: ApiRequest) -> Answer:
    """Acknowledge a failure.

    The first acknowledgement stays. A later success of the job acknowledges by itself.
    """
    (run,) = operations.acknowledge(ask.service.db, ask.by, [ask.path["run"]])
    return Answer(as_json(run))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/runs/{run:id}/notes",
        handler=list_notes,
        answers={200: models.Notes},
        errors=(404,),
    ),
    Endpoint(
        method="POST",
        path="/v1/runs/{run:id}/notes",
        handler=add_note,
        role=Role.OPERATOR,
        body=parameters.NoteBody,
        answers={201: models.Note},
        errors=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/v1/runs/{run:id}/acknowledge",
        handler=acknowledge,
        role=Role.OPERATOR,
        answers={200: models.Run},
        errors=(404, 409),
    ),
)
