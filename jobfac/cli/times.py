"""Times as the command line writes them: with their offset, so that they can be copied into another command."""

from datetime import datetime, timedelta


def write_time(moment: datetime) -> str:
    """Return the local time in seconds, with its offset: 2027-01-31 22:00:05+01:00."""
    return moment.astimezone().isoformat(" ", "seconds")


def write_short(moment: datetime, now: datetime) -> str:
    """Return the local time for a narrow table: without its date if that is today's, without its year if it is this
    year's. The offset is always there."""
    local, today = moment.astimezone(), now.astimezone()
    offset = local.isoformat()[-6:]
    if local.date() == today.date():
        return f"{local:%H:%M:%S}{offset}"
    return f"{local:%m-%d %H:%M}{offset}" if local.year == today.year else f"{local:%Y-%m-%d %H:%M}{offset}"


def describe(moment: datetime, now: datetime) -> str:
    """Return how a time was understood: with the name of the zone and the time until then."""
    local = moment.astimezone()
    left = int((moment - now).total_seconds())
    span = timedelta(seconds=abs(left))
    return f"{local:%a} {write_time(moment)} ({local.tzname()}), {f'in {span}' if left >= 0 else f'{span} ago'}"
