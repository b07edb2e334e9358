"""`notify test / list / requeue`: send a sample, list notifications, deliver dead ones again."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfac.cli.common import (
    MOST,
    NOT_FOUND,
    UNSUCCESSFUL,
    USAGE,
    Json,
    database,
    fail,
    group,
    local_caller,
    note,
    print_json,
    print_table,
    settings,
)

if TYPE_CHECKING:
    from jobfac.definitions import Recipient

app = group("Notifications.")


@app.command("test")
def send_sample(
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Send an email there.")] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Post there.")] = None,
    apprise: Annotated[str | None, typer.Option(metavar="URL", help="Send there through apprise.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="CHANNEL:ADDRESS", help="Send by any channel, such as email:ops@example.org.")
    ] = None,
    secret: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="Sign the webhook with it: env:NAME, file:/path.")
    ] = None,
) -> None:
    """Send a sample from this machine, with the settings that hold here, and say whether it arrived."""
    from jobfac.channels import DeliveryError, deliver, shown

    given = {"email": email, "webhook": webhook, "apprise": apprise, "secret": secret}
    if to is not None:
        channel, _, address = to.partition(":")
        given[channel] = address
    recipient = _recipient({name: value for name, value in given.items() if value is not None})
    try:
        deliver(_sample(), recipient, settings())
    except DeliveryError as error:
        fail(UNSUCCESSFUL, f"It did not arrive: {error}.")
    typer.echo(f"sent to {shown(recipient)}")


def _recipient(body: dict[str, str]) -> "Recipient":
    from jobfac.definitions import DefinitionError, read_notify

    if sum(name != "secret" for name in body) != 1:
        fail(USAGE, "Give one of --email, --webhook and --apprise.")
    try:
        return read_notify([{"on": "failed", "to": body}])[0].to
    except DefinitionError as error:
        fail(USAGE, "; ".join(problem.message.removeprefix("notify[0].to.") for problem in error.problems) + ".")


def _sample() -> Any:
    import uuid
    from datetime import UTC, datetime

    from jobfac.channels import Message
    from jobfac.store.runs.reading import PUBLIC

    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    body = dict.fromkeys(PUBLIC) | {
        "id": 0,
        "job": "sample",
        "state": "failed",
        "attempt": 1,
        "created_at": now,
        "started_at": now,
        "ended_at": now,
        "exit_code": 1,
        "reason": "only a test of the notifications",
        "event": "failed",
        "detail": None,
    }
    return Message(f"test.{uuid.uuid4().hex[:12]}", "failed", body, "what the program wrote\n")


@app.command("list")
def list_notifications(
    state: Annotated[str | None, typer.Option(help="Only waiting, delivered or dead ones.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Notifications, newest first, with their state. Dead: given up after many tries."""
    from jobfac.states import Delivery
    from jobfac.store import outbox

    if state is not None and state not in list(Delivery):
        fail(USAGE, f"--state must be one of {', '.join(Delivery)}, not '{state}'.")
    with database() as db:
        found = [_present(row) for row in db.query(outbox.find, None if state is None else Delivery(state), limit)]
    if as_json:
        print_json(found)
        return
    columns = {"ID": "id", "RUN": "run_id", "JOB": "job", "EVENT": "event", "TO": _to, "STATE": _state,
               "TRIES": "tries", "CREATED": "created_at", "ERROR": _error}  # fmt: skip
    print_table(found, columns, "no notifications")


def _present(row: Any) -> dict[str, Any]:
    import json

    from jobfac.channels import shown
    from jobfac.definitions import Recipient
    from jobfac.store.runs.reading import shown_value

    to = Recipient.model_validate(json.loads(row["recipient"]))
    rest = {name: shown_value(value) for name, value in row.items() if name != "recipient"}
    return {**rest, "channel": to.channel, "to": shown(to)}


def _to(row: Any) -> str:
    from rich.markup import escape

    return escape(f"{row['channel']} {row['to']}")


def _state(row: Any) -> str:
    style = {"delivered": "green", "dead": "red"}.get(row["state"])
    return f"[{style}]{row['state']}[/]" if style else str(row["state"])


def _error(row: Any) -> str:
    from rich.markup import escape

    return escape(row["error"] or "")


@app.command()
def requeue(
    notification: Annotated[
        list[int] | None, typer.Argument(min=1, max=MOST, help="Ids, as `notify list` shows them.")
    ] = None,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="Every dead one.")] = False,
) -> None:
    """Let dead notifications be tried again."""
    from jobfac.operations import notifications

    if bool(notification) == all_dead:
        fail(USAGE, "Give the ids of notifications, or --all-dead.")
    with database() as db:
        done = notifications.requeue(db, local_caller(), notification or None)
    if missing := sorted(set(notification or ()) - set(done)):
        note(f"Not dead, so left alone: {', '.join(map(str, missing))}; `jobfac notify list` shows their states.")
    if notification and not done:
        fail(NOT_FOUND, "Nothing was requeued.")
    typer.echo(f"{len(done)} notifications were requeued")
