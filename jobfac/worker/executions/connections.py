"""The connection of a ``sql`` job: what of its URL must not be shown."""

from jobfac.settings.database_url import passwords_in


def secrets_of(url: str) -> list[bytes]:
    """What output and reports must not contain: the URL and its passwords."""
    return [part.encode() for part in (url, *passwords_in(url)) if part]
