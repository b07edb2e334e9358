"""The time zone of the schedules that are imported."""

import os
from typing import Annotated

import typer

from jobfac.cli.common import USAGE, fail

Zone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="The time zone of the schedules; default: that of this machine.")
]


def zone_of(given: str | None) -> str:
    """Return the given zone, or the zone of this machine's schedulers."""
    link = os.path.realpath("/etc/localtime")
    zone = given or os.environ.get("TZ") or (link.partition("/zoneinfo/")[2] or "UTC")
    from jobfac.definitions.patterns.moments import read_zone

    try:
        return read_zone(zone)
    except ValueError as error:
        fail(USAGE, f"--timezone {error}.")
