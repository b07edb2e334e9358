"""`keys create / list / revoke`: keys of the API. They are made where the database is, never through the API."""

from typing import Annotated

import typer

from jobfac.cli.common import MOST, USAGE, Json, database, fail, group, local_caller
from jobfac.cli.common import seconds as read_seconds
from jobfac.cli.rendering.printing import Columns, note, print_json, print_table
from jobfac.views.keys import KeyView
from jobfac.views.serialization import all_as_json

app = group("Keys of the API.")


@app.command()
def create(
    role: Annotated[str, typer.Option(help="viewer reads, operator also starts and stops, admin also defines.")],
    name: Annotated[str, typer.Option(help="What events and the audit call its user; default: the role.")] = "",
    category: Annotated[
        list[str] | None, typer.Option(help="Only jobs and runs of this category; repeat. Default: all.")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="90d", help="It ends after this long; default: never.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it: it is not shown again."""
    from jobfac.operations import keys
    from jobfac.store import api_keys

    if role not in list(api_keys.Role):
        fail(USAGE, f"--role must be one of {', '.join(api_keys.Role)}, not '{role}'.")
    if len(name) > 128:
        fail(USAGE, "--name must be at most 128 characters.")
    lifetime = None if expires is None else read_seconds(expires, "--expires")
    if lifetime == 0:
        fail(USAGE, "--expires must be longer than 0; without it the key never ends.")
    with database() as db:
        made = keys.create(
            db, local_caller(), name or role, api_keys.Role(role), categories=category or None, lifetime=lifetime
        )
    if as_json:
        print_json({"id": made.id, "role": role, "key": made.key})
    else:
        note(f"Key {made.id} ({role}). Keep it safe: it is not shown again.")
        typer.echo(made.key)


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """Every key, without its secret."""
    from jobfac.store import api_keys

    with database() as db:
        found = db.query(api_keys.list_keys)
    if as_json:
        print_json(all_as_json(found))
        return
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
    print_table(found, columns, "no keys; `jobfac keys create --role ROLE` makes one")


@app.command()
def revoke(key: Annotated[int, typer.Argument(min=1, max=MOST, help="The key's id, as `keys list` shows it.")]) -> None:
    """End a key's use at once."""
    from jobfac.operations import keys

    with database() as db:
        keys.revoke(db, local_caller(), key)
    typer.echo(f"key {key} is revoked")
