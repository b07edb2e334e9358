"""`/v1/runs/{run}/steps/{step}/approve`: steps that wait for a person."""

from jobfac.api import models, parameters
from jobfac.api.routing import Answer, ApiRequest, Endpoint
from jobfac.operations import approvals
from jobfac.store.api_keys import Role


def approve(ask: ApiRequest) -> Answer:
    """Approve or reject a step.

    409: the step does not wait for an approval, or was decided before. 403: the step wants another role, or somebody
    else than the one who started the run.
    """
    run, step, body = ask.path["run"], ask.path["step"], ask.body
    done = approvals.approve(ask.service.db, ask.by, run, step, approved=body.approved, reason=body.reason)
    return Answer({"run": run, "step": step, "decision": str(done.decision)})


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/runs/{run:id}/steps/{step}/approve",
        handler=approve,
        role=Role.OPERATOR,
        body=parameters.ApproveBody,
        body_required=False,
        answers={200: models.Approval},
        errors=(404, 409),
    ),
)
