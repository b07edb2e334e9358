"""The time zone of the schedules that are imported."""

import os
from pathlib import Path
from typing import Annotated

import typer

from jobfac.cli.common import USAGE, fail

Zone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="The time zone of the schedules; default: that of this machine.")
]

LOCAL = "/etc/localtime"
NAME = Path("/etc/timezone")


def zone_of(given: str | None) -> str:
    """Return the given zone, or the zone of this machine's schedulers."""
    zone = given or os.environ.get("TZ") or of_machine()
    if zone is None:
        fail(USAGE, f"{LOCAL} does not say the name of this machine's time zone; give it with --timezone.")
    from jobfac.definitions.patterns.moments import read_zone

    try:
        return read_zone(zone)
    except ValueError as error:
        fail(USAGE, f"--timezone {error}.")


def of_machine() -> str | None:
    """Return the zone of this machine; None: its zone has no name."""
    link = os.path.realpath(LOCAL)
    if found := link.partition("/zoneinfo/")[2]:
        return found
    try:
        if name := NAME.read_text(encoding="utf-8").strip():  # a copy of the zone's file has no name
            return name
    except (OSError, UnicodeDecodeError):
        pass
    return None if os.path.exists(link) else "UTC"  # noqa: PTH110
