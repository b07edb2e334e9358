"""`export crontab`: definitions back into a crontab."""

from typing import Any

from jobfac.cli.commands.importing.zones import of_machine
from jobfac.cli.rendering.printing import note, print_text


def print_crontab(bodies: dict[str, Any], user: str | None, paused: set[tuple[str, str]]) -> None:
    """Print the jobs of a user as a crontab, and what it lacks as warnings. ``paused``: schedules, by job and name."""
    from jobfac import definitions as d
    from jobfac.importers.to_crontab import to_crontab

    read, left_out = {}, []
    for job, body in bodies.items():
        try:
            read[job] = d.from_canonical(job, body, body.pop("enabled", True))
        except d.DefinitionError as error:
            left_out.append(f"{error}; it was left out")
    written = to_crontab(read, user, paused)
    here = of_machine()
    ignored = [
        f"Debian's cron ignores CRON_TZ={zone} and runs the lines below it in the machine's zone, {here or 'not known'}"
        for zone in written.zones
        if zone != here
    ]
    for sentence in (*left_out, *written.left_out, *ignored):
        note(f"warning: {sentence}")
    print_text(written.text)
