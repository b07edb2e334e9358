"""`/v1/keys`: list, create and revoke API keys."""

from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator
from pydantic.json_schema import SkipJsonSchema

from jobfac.api import models, parameters
from jobfac.api.routing import ApiRequest, ApiResponse, Endpoints
from jobfac.control_characters import REFUSED
from jobfac.definitions.values import LONGEST
from jobfac.operations import keys as operations
from jobfac.store import api_keys
from jobfac.store.api_keys import Role
from jobfac.views.serialization import all_as_json

ENDPOINTS = Endpoints()

# For the document; the operation refuses a blank text with a sentence. An empty name counts as none.
Name = Annotated[
    str,
    Field(
        max_length=128,
        pattern=r"^[^\x00]*$",
        json_schema_extra={"pattern": rf"^([^{REFUSED}]*[^{REFUSED}\s][^{REFUSED}]*)?$"},
    ),
]
Category = Annotated[
    parameters.Word, Field(json_schema_extra={"pattern": rf"^[^{REFUSED}]*[^{REFUSED}\s][^{REFUSED}]*$"})
]


_NUMBER = {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST}
_TEXT = {"type": "string", "pattern": "^[1-9][0-9]{0,3}(ms|s|m|h|d)$"}
Lifetime = Annotated[parameters.Duration, WithJsonSchema({"anyOf": [_NUMBER, _TEXT]})]


class KeyBody(parameters.Body):
    """``name``: in events and in the audit; null: the role. ``categories``: the only ones that the key may access;
    left out: all. ``lifetime``: seconds, or a text such as 90d, until it expires; left out: it does not."""

    role: Role
    name: Name | None = None
    categories: Annotated[list[Category], Field(min_length=1), parameters.FirstMistake()] | SkipJsonSchema[None] = None
    lifetime: Lifetime | SkipJsonSchema[None] = None

    _all_are_meant = parameters.given("categories", "leave it out for a key for all jobs")
    _no_end_is_meant = parameters.given("lifetime", "leave it out for a key that does not expire")

    @field_validator("lifetime")
    @classmethod
    def _ends_later(cls, lifetime: float | None) -> float | None:
        if lifetime == 0:
            raise ValueError("must be longer than 0; leave it out for a key that does not expire")
        return lifetime


@ENDPOINTS.add("GET", "/v1/keys", role=Role.ADMIN, unrestricted=True, responses={200: models.Keys})
def list_keys(request: ApiRequest) -> ApiResponse:
    """List keys, without their secrets."""
    return ApiResponse({"items": all_as_json(request.read(api_keys.list_keys))})


@ENDPOINTS.add("POST", "/v1/keys", role=Role.ADMIN, unrestricted=True, responses={201: models.NewKey})
def create_key(request: ApiRequest, body: KeyBody) -> ApiResponse:
    """Create a key. Its text cannot be shown again."""
    name, categories = body.name or body.role.value, body.categories
    created = operations.create(request.db, request.by, name, body.role, categories=categories, lifetime=body.lifetime)
    return ApiResponse({"id": created.id, "role": str(body.role), "key": created.key}, 201)


@ENDPOINTS.add("DELETE", "/v1/keys/{key:id}", role=Role.ADMIN, unrestricted=True, responses={204: None}, errors=(404,))
def revoke_key(request: ApiRequest, key: int) -> ApiResponse:
    """Revoke a key immediately."""
    operations.revoke(request.db, request.by, key)
    return ApiResponse(None, 204)
