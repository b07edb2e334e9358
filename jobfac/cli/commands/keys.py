"""`keys create / list / revoke`: API keys."""

from typing import Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import MAX_ID, USAGE, Json, fail, group
from jobfac.cli.common import seconds as read_seconds
from jobfac.cli.rendering.printing import Columns, note, print_json, print_list
from jobfac.views.keys import KeyView

app = group("Create, list and revoke API keys.")


@app.command()
def create(
    role: Annotated[
        str, typer.Option(help="viewer reads, operator also starts and stops, admin also changes definitions.")
    ],
    name: Annotated[str, typer.Option(help="The name in events and in the audit; default: the role.")] = "",
    category: Annotated[
        list[str] | None, typer.Option(help="Only jobs and runs of this category; may be repeated. Default: all.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="90d", help="Expire after this duration; default: never.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It cannot be shown again."""
    from jobfac.store import api_keys

    if role not in list(api_keys.Role):
        fail(USAGE, f"--role must be one of {', '.join(api_keys.Role)}, not '{role}'.")
    if len(name) > 128:
        fail(USAGE, "--name must be at most 128 characters.")
    lifetime = None if expires is None else read_seconds(expires, "--expires")
    if lifetime == 0:
        fail(USAGE, "--expires must be longer than 0; without it the key never expires.")
    with backend() as factory:
        created = factory.create_key(name or role, api_keys.Role(role), category or None, lifetime)
    if as_json:
        print_json({"id": created.id, "role": role, "key": created.key})
    else:
        note(f"Key {created.id} ({role}). Keep it safe: it is not shown again.")
        typer.echo(created.key)


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """List all keys, without their secrets."""
    with backend() as factory:
        views = factory.keys()
    columns: Columns[KeyView] = {
        "KEY": "id",
        "NAME": "name",
        "ROLE": "role",
        "CATEGORIES": "categories",
        "PREFIX": "prefix",
        "CREATED": "created_at",
        "EXPIRES": "expires_at",
        "REVOKED": "revoked_at",
    }
    print_list(views, columns, "no keys; `jobfac keys create --role ROLE` creates one", as_json)


@app.command()
def revoke(
    key: Annotated[int, typer.Argument(min=1, max=MAX_ID, help="The key's id, from `keys list`.")],
) -> None:
    """Revoke a key immediately."""
    with backend() as factory:
        factory.revoke_key(key)
    typer.echo(f"key {key} is revoked")
