"""`notify test / list / requeue`: send a sample, list notifications, requeue dead ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobfac.cli.client import backend
from jobfac.cli.common import (
    MAX_ID,
    NOT_FOUND,
    UNSUCCESSFUL,
    USAGE,
    Json,
    fail,
    group,
    settings,
)
from jobfac.cli.rendering.printing import Columns, note, print_list
from jobfac.views.notifications import NotificationView

if TYPE_CHECKING:
    from jobfac.channels import Message
    from jobfac.definitions import Recipient

app = group("Test, list and requeue notifications.")


@app.command("test")
def send_sample(
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Send an email to this address.")] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Post to this URL.")] = None,
    apprise: Annotated[str | None, typer.Option(metavar="URL", help="Send to this URL of apprise.")] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="CHANNEL:ADDRESS", help="Send through any channel, such as email:ops@example.org."),
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Sign the webhook with this secret: env:NAME or file:/path."),
    ] = None,
) -> None:
    """Send a sample notification from this machine with its settings."""
    from jobfac.channels import DeliveryError, deliver, shown

    options = {"email": email, "webhook": webhook, "apprise": apprise, "secret": secret}
    if to is not None:
        channel, _, address = to.partition(":")
        options[channel] = address
    recipient = _recipient({name: value for name, value in options.items() if value is not None})
    folder = settings().templates
    if folder and not Path(folder).is_dir():  # an alarm must not wait for it
        note(f"There is no folder {folder}, which the setting templates names: the built-in templates are used.")
    try:
        deliver(_sample(), recipient, settings())
    except DeliveryError as error:
        fail(UNSUCCESSFUL, f"The notification could not be delivered: {error}.")
    typer.echo(f"sent to {shown(recipient)}")


def _recipient(body: dict[str, str]) -> "Recipient":
    from jobfac.definitions import DefinitionError, read_notify

    if sum(name != "secret" for name in body) != 1:
        fail(USAGE, "Give one of --email, --webhook and --apprise.")
    try:
        recipient = read_notify([{"on": "failed", "to": body}])[0].to
    except DefinitionError as error:
        fail(USAGE, "; ".join(problem.message.removeprefix("notify[0].to.") for problem in error.problems) + ".")
    if wrong := recipient.not_single():
        fail(USAGE, f"email {wrong}.")
    return recipient


def _sample() -> "Message":
    import uuid
    from datetime import UTC, datetime

    from jobfac.channels import Message
    from jobfac.states import RunState
    from jobfac.views.runs import RunView
    from jobfac.views.serialization import as_json, columns, from_row

    now = datetime.now(UTC)
    known = {
        "id": 0,
        "job": "sample",
        "state": RunState.FAILED,
        "attempt": 1,
        "created_at": now,
        "started_at": now,
        "ended_at": now,
        "exit_code": 1,
        "reason": "only a test of the notifications",
    }
    body = as_json(from_row(RunView, dict.fromkeys(columns(RunView)) | known)) | {"event": "failed", "detail": None}
    return Message(f"test.{uuid.uuid4().hex[:12]}", "failed", body, "what the program wrote\n")


@app.command("list")
def list_notifications(
    state: Annotated[
        str | None, typer.Option(help="Only notifications in this state: waiting, delivered, dead.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The maximum number of notifications.")] = 50,
    as_json: Json = False,
) -> None:
    """List notifications, newest first. Delivery of a dead one was given up after many tries."""
    from jobfac.states import Delivery

    if state is not None and state not in list(Delivery):
        fail(USAGE, f"--state must be one of {', '.join(Delivery)}, not '{state}'.")
    with backend() as factory:
        views = factory.notifications(None if state is None else Delivery(state), limit)
    columns: Columns[NotificationView] = {
        "ID": "id",
        "RUN": "run_id",
        "JOB": "job",
        "EVENT": "event",
        "TO": _to,
        "STATE": "state",
        "TRIES": "tries",
        "CREATED": "created_at",
        "ERROR": "error",
    }
    print_list(views, columns, "no notifications", as_json, limit)


def _to(row: NotificationView) -> str:
    return f"{row.channel} {row.to}"


@app.command()
def requeue(
    notification: Annotated[
        list[int] | None, typer.Argument(min=1, max=MAX_ID, help="Notification ids, from `notify list`.")
    ] = None,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="All dead notifications.")] = False,
) -> None:
    """Requeue dead notifications for delivery."""
    if bool(notification) == all_dead:
        fail(USAGE, "Give the ids of notifications, or --all-dead.")
    with backend() as factory:
        requeued = factory.requeue(notification or None)
    if missing := sorted(set(notification or ()) - set(requeued)):
        note(f"Not dead, so not requeued: {', '.join(map(str, missing))}; `jobfac notify list` shows their states.")
    if notification and not requeued:
        fail(NOT_FOUND, "Nothing was requeued.")
    typer.echo(f"{len(requeued)} notifications were requeued")
