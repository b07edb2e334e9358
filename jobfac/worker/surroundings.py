"""What a program finds around it: the allow-listed environment, and secrets resolved on this machine."""

import os
import pwd
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from jobfac.definitions import Secret
from jobfac.process import StartError

ALLOWED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")
"""Variables of the worker that its programs see, besides LC_*."""

PAYLOAD_IN_ENVIRONMENT = 32 * 1024
"""Characters up to which a payload is also given in ``JOBFAC_PAYLOAD``; Linux takes 128 KiB in one variable."""


@cache
def base_environment() -> Mapping[str, str]:
    """The worker's own environment, cut down to the allow-list."""
    kept = {name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith("LC_")}
    return MappingProxyType({"PATH": os.defpath, **kept})


def home_of(user: str) -> Mapping[str, str]:
    """The variables that name a user's home and login.

    Raises:
        StartError: there is no such user.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"there is no user '{user}' on this machine; create it or change the job's user") from None
    return {"HOME": account.pw_dir, "USER": user, "LOGNAME": user, "SHELL": account.pw_shell}


def resolve(secret: Secret) -> str:
    """The value of a reference: ``env:NAME``, ``file:/path`` (without its last line end), ``keyring:service/user``.

    Raises:
        StartError: it cannot be found here; the text names the reference, never a value.
    """
    kind, _, name = secret.secret.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise StartError(f"the secret {secret.secret} is not in the worker's environment; set {name} there")
        return value
    if kind == "file":
        try:
            return Path(name).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise StartError(f"the secret {secret.secret} cannot be read: {why}") from None
    return _from_keyring(secret.secret, name)


def _from_keyring(reference: str, name: str) -> str:
    try:
        import keyring
    except ImportError:
        raise StartError(f"the secret {reference} needs the package keyring on the worker; install it there") from None
    service, _, user = name.rpartition("/")
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise StartError(f"the secret {reference} cannot be read from the keyring: {error}") from None
    if value is None:
        raise StartError(f"the secret {reference} is not in the worker's keyring")
    return str(value)
