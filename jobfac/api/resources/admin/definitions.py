"""`/v1/definitions:apply`: apply whole files of definitions, all of them or none."""

from typing import Annotated

from pydantic import Field

from jobfac import definitions as d
from jobfac.api import models, parameters
from jobfac.api.problems import Problem
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import jobs as operations
from jobfac.store.api_keys import Role
from jobfac.views.serialization import as_json

ENDPOINTS = Endpoints()


class DefinitionFile(parameters.Body):
    """A file of definitions in YAML or JSON. ``name``: in messages."""

    name: Annotated[str, Field(max_length=400)]
    text: str


class ApplyBody(parameters.Body):
    """``prune``: also remove jobs that no file defines. ``dry_run``: change nothing, only return the changes."""

    files: Annotated[list[DefinitionFile], Field(min_length=1, max_length=1000)]
    prune: bool = False
    dry_run: bool = False


@ENDPOINTS.add(
    "POST",
    "/v1/definitions:apply",
    role=Role.ADMIN,
    unrestricted=True,
    responses={200: models.AppliedDefinitions},
    errors=(409,),
)
def apply_definitions(request: ApiRequest, body: ApplyBody) -> ApiResponse:
    """Apply files of definitions, all of them or none.

    422: `errors` has each problem, with its file and line. Nothing was changed then.
    """
    try:
        read = d.text_reader({file.name: file.text for file in body.files})
        act = operations.plan if body.dry_run else operations.apply
        return ApiResponse(as_json(act(request.db, request.by, read, prune=body.prune).view()))
    except d.DefinitionError as error:
        found = [{"field": problem.field, "message": str(problem)} for problem in error.problems]
        raise Problem(422, str(error), errors=found) from None
