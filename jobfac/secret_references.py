"""Resolve secret references on the machine that needs the secret. jobfac never stores the value."""

import errno
import os
from pathlib import Path

from jobfac.definitions import Secret
from jobfac.errors import JobfacError
from jobfac.machine.trusted import open_trusted

LARGEST = 1024 * 1024
"""Bytes of a secret at most."""


class SecretError(JobfacError):
    """A secret cannot be resolved here. The text names the reference, never the value."""


def resolve(secret: Secret | str) -> str:
    """The value of a reference: ``env:NAME``, ``file:/path`` (without its last line end), ``keyring:service/user``.

    A file is regular, and the symbolic links in its path belong to root or to this process's user.

    Raises:
        SecretError: the secret cannot be found or read here.
    """
    reference = secret if isinstance(secret, str) else secret.secret
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise SecretError(f"the secret {reference} is not in this role's environment; set {name} there")
        return value
    if kind == "file":
        try:
            return _read(Path(name)).decode().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SecretError(f"the secret {reference} cannot be read: {why}") from None
    return _from_keyring(reference, name)


def resolve_proof(reference: Secret | str) -> str:
    """The value of a secret by which somebody is recognised, who must know it: it is not empty.

    Args:
        reference: a reference, or a setting that may be the secret itself.

    Raises:
        SecretError: as ``resolve``; or it is empty, as a variable that a deployment has not filled, and known to all.
    """
    value = resolve_setting(reference) if isinstance(reference, str) else resolve(reference)
    if not value.strip():
        name = f"the secret {reference.secret if isinstance(reference, Secret) else reference}".strip()
        raise SecretError(f"{name} is empty here, so that anybody would know it")
    return value


def _read(path: Path) -> bytes:
    """Read a regular file. Links of other users, pipes and devices could lead elsewhere, or never end.

    Raises:
        OSError: it cannot be read, is another kind of file, or is too large.
    """
    with open(open_trusted(path), "rb") as file:  # noqa: PTH123 (a descriptor)
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST:,} bytes")
    return content


def resolve_setting(value: str) -> str:
    """The value of a secret setting: the setting itself, or the secret it refers to. Raises as ``resolve`` does."""
    return resolve(value) if value.startswith(("env:", "file:/", "keyring:")) else value


def _from_keyring(reference: str, name: str) -> str:
    try:
        import keyring
    except ImportError:
        raise SecretError(f"the secret {reference} needs the package keyring here; install jobfac[keyring]") from None
    service, _, user = name.rpartition("/")
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise SecretError(f"the secret {reference} cannot be read from the keyring: {error}") from None
    if value is None:
        raise SecretError(f"the secret {reference} is not in the keyring of this machine")
    return str(value)
