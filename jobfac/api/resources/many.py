"""`/v1/runs:retry`, `/v1/runs:stop` and `/v1/runs:acknowledge`: many runs at once."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.errors import Refused
from jobfac.operations.bulk import many
from jobfac.states import ACTIVE, FINAL, TO_ACKNOWLEDGE, RunState
from jobfac.store.api_keys import Role
from jobfac.store.history.search import Filter
from jobfac.views.results.many import ManyView
from jobfac.views.runs import RunView
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()

LIMIT = 500
"""The maximum number of runs in one request."""


def _without_null(schema: dict[str, Any]) -> None:
    """Change the JSON Schema of a model whose fields may be left out, but are never null."""
    for field in schema["properties"].values():
        forms = [one for one in field.get("anyOf", ()) if one != {"type": "null"}]
        if len(forms) == 1:
            del field["anyOf"]
            field |= forms[0]
            field.pop("default", None)


class SelectedRuns(parameters.Body, parameters.RunFields):
    """Which runs. At least one field besides ``state`` is needed."""

    model_config = ConfigDict(json_schema_extra=_without_null)

    @model_validator(mode="after")
    def _all_are_meant(self) -> Self:
        """A variable without a value, which becomes null, must not choose more runs."""
        for name in sorted(self.model_fields_set):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is null; leave it out to choose runs with any")
        return self


class ManyBody(parameters.Body):
    """``filter`` or ``runs``: which runs; the fields of the filter may also stand beside it. ``dry_run``: change
    nothing, only list what would be done. ``cursor``: ``next_cursor`` of the previous response, to continue."""

    filter: SelectedRuns | None = None
    runs: Annotated[list[parameters.RunNumber], Field(min_length=1, max_length=LIMIT)] | None = None
    limit: Annotated[int, Field(ge=1, le=LIMIT), parameters.Whole] = 100
    cursor: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")] | None = None
    dry_run: bool = False

    @property
    def wanted(self) -> Filter | None:
        """The filter; None: the runs are named."""
        return None if self.filter is None else self.filter.wanted()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        beside = {name: data[name] for name in data if name in parameters.RunFields.model_fields}
        if not beside:
            return data
        rest = {name: value for name, value in data.items() if name not in beside}
        given = rest.get("filter")
        return {**rest, "filter": {**beside, **(given if isinstance(given, dict) else {})}}


class StopManyBody(ManyBody):
    """As for a retry. ``now``: kill the programs at once, without the grace period of their jobs."""

    now: bool = False


@ENDPOINTS.add("POST", "/v1/runs:retry", role=Role.OPERATOR, responses={200: models.ManyRuns}, errors=(409,))
def retry_runs(request: ApiRequest, body: ManyBody) -> ApiResponse:
    """Retry many runs, each at most once.

    A filter without `state` means runs that failed, timed out, could not start, were lost or are mixed. Runs that were
    retried before are skipped, so the request may be repeated. The runs of one page are retried oldest first.
    """
    chosen, cursor = _chosen(request, body, FINAL)
    lines = many.retry(request.db, request.by, chosen, dry_run=body.dry_run, wanted=body.wanted)
    return _response(body, lines, cursor)


@ENDPOINTS.add("POST", "/v1/runs:stop", role=Role.OPERATOR, responses={200: models.ManyRuns}, errors=(409,))
def stop_runs(request: ApiRequest, body: StopManyBody) -> ApiResponse:
    """Stop many runs. A filter without `state` means all that have not ended.

    A sequence that matches and is on a later page is stopped in place of its runs, which are skipped.
    """
    chosen, cursor = _chosen(request, body, ACTIVE)
    lines = many.stop(request.db, request.by, chosen, now=body.now, dry_run=body.dry_run, wanted=body.wanted)
    return _response(body, lines, cursor)


@ENDPOINTS.add("POST", "/v1/runs:acknowledge", role=Role.OPERATOR, responses={200: models.ManyRuns}, errors=(409,))
def acknowledge_runs(request: ApiRequest, body: ManyBody) -> ApiResponse:
    """Acknowledge many failures.

    A filter chooses only failures that nobody has acknowledged. May be repeated: the first acknowledgement stays.
    """
    chosen, cursor = _chosen(request, body, TO_ACKNOWLEDGE, unacknowledged=True)
    return _response(body, many.acknowledge(request.db, request.by, chosen, dry_run=body.dry_run), cursor)


def _chosen(
    request: ApiRequest, body: ManyBody, states: frozenset[RunState], *, unacknowledged: bool = False
) -> tuple[Sequence[RunView], str | None]:
    if body.runs is not None:
        if body.filter is not None:
            raise Refused("A filter and runs exclude each other; give one of them.")
        return many.find(request.db, request.by, body.runs), None
    below = None if body.cursor is None else int(body.cursor)
    wanted = (body.wanted or Filter())._replace(below=below)
    if unacknowledged:
        wanted = wanted._replace(unacknowledged=True)
    found = many.choose(request.db, request.by, wanted, body.limit, states)
    return found.runs, None if found.below is None else str(found.below)


def _response(body: ManyBody, lines: Sequence[ManyView], cursor: str | None) -> ApiResponse:
    return ApiResponse({"dry_run": body.dry_run, "items": all_as_json(lines), "next_cursor": cursor})
