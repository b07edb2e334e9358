"""`/v1/notifications`: list notifications, requeue dead ones."""

from typing import Annotated

import sqlalchemy as sa
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.channels import shown
from jobfac.operations import notifications as operations
from jobfac.states import Delivery
from jobfac.store import outbox
from jobfac.store.api_keys import Role
from jobfac.views.notifications import NotificationView
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()


class NotificationsQuery(parameters.Parameters):
    state: Delivery | None = Field(None, description="Only notifications in this state.")
    limit: int = Field(50, ge=1, le=10_000, description="The maximum number of notifications.")


class RequeueBody(parameters.Body):
    """``ids``: which dead notifications; left out: all of them."""

    ids: Annotated[list[parameters.RunNumber], Field(min_length=1, max_length=500)] | SkipJsonSchema[None] = None

    _every_one_is_meant = parameters.given("ids", "leave it out to deliver all dead notifications")


@ENDPOINTS.add("GET", "/v1/notifications", responses={200: models.Notifications})
def list_notifications(request: ApiRequest, query: NotificationsQuery) -> ApiResponse:
    """List notifications, newest first. Recipients are shown without their secrets."""

    def read(conn: sa.Connection) -> list[NotificationView]:
        return outbox.find(conn, shown, query.state, query.limit, categories=request.caller.categories)

    views = request.read(read)
    return ApiResponse({"items": all_as_json(views)})


@ENDPOINTS.add(
    "POST",
    "/v1/notifications:requeue",
    role=Role.OPERATOR,
    unrestricted=True,
    body_required=False,
    responses={200: models.Requeued},
)
def requeue_notifications(request: ApiRequest, body: RequeueBody) -> ApiResponse:
    """Deliver dead notifications again."""
    return ApiResponse({"requeued": operations.requeue(request.db, request.by, body.ids)})
