"""`/v1/runs/{run}/steps/{step}/approve`: steps that wait for a person."""

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.operations import approvals
from jobfac.store.api_keys import Role

ENDPOINTS = Endpoints()


@ENDPOINTS.add(
    "POST",
    "/v1/runs/{run:id}/steps/{step}/approve",
    role=Role.OPERATOR,
    body_required=False,
    responses={200: models.Approval},
    errors=(404, 409),
)
def approve(request: ApiRequest, run: int, step: str, body: parameters.ApproveBody) -> ApiResponse:
    """Approve or reject a step.

    409: the step does not wait for an approval, or was decided before. 403: the step wants another role, or somebody
    else than the one who started the run.
    """
    done = approvals.approve(
        request.db,
        request.by,
        run,
        step,
        approved=body.approved,
        reason=body.reason,
        given=body.parameters,
        number=body.number,
    )
    return ApiResponse({"run": run, "step": step, "decision": str(done.decision)})
