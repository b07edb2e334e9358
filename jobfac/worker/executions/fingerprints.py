"""Recognises whether the secrets of a program that a dead worker has left are still those with which it was started.

Its output is masked with the values that the references have now. After a rotation these are others, and the old ones
would be stored. A worker keeps no value: the fingerprint is too short to guess one, and long enough to see a change.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from jobfac.programs import write_private
from jobfac.secret_references import SecretError
from jobfac.settings.database_url import passwords_in


class SecretChanged(SecretError):
    """A secret has another value than at the start of the program."""


BYTES = 2
"""The length of a fingerprint: one change in 65,536 is not seen."""


def secrets_of(url: str) -> list[bytes]:
    """What output and reports of a ``sql`` job must not contain: the URL of its connection and its passwords."""
    return [part.encode() for part in (url, *passwords_in(url)) if part]


def fingerprints_path(path: str | Path) -> Path:
    """Return the path of the file with the fingerprints of an execution. ``path``: of another file of it."""
    return Path(path).with_suffix(".secrets")


def keep(path: Path, secrets: Mapping[str, str]) -> None:
    """Write the fingerprints of these values, by their references.

    Raises:
        OSError: the file cannot be written.
    """
    salt = os.urandom(16)
    found = {reference: _fingerprint(salt, value) for reference, value in secrets.items()}
    write_private(path, json.dumps({"salt": salt.hex(), "secrets": found}).encode(), None)


def check(path: Path, secrets: Mapping[str, str]) -> None:
    """Compare the values with the fingerprints. Without a file, as of an earlier version, nothing is known.

    Raises:
        SecretChanged: a value is another one now, or the file does not tell.
        OSError: the file cannot be read.
    """
    if not secrets or not path.exists():
        return
    try:
        kept = json.loads(path.read_text())
        salt, known = bytes.fromhex(kept["salt"]), dict(kept["secrets"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SecretChanged(f"{path} does not hold the fingerprints of its secrets") from error
    for reference, value in secrets.items():
        if known.get(reference) != _fingerprint(salt, value):
            raise SecretChanged(
                f"the secret {reference} has changed since the program was started, so its output, which may show the "
                "former one, cannot be masked"
            )


def _fingerprint(salt: bytes, value: str) -> str:
    return hashlib.blake2b(value.encode(), key=salt, digest_size=BYTES).hexdigest()
