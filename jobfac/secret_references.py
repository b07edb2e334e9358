"""Resolve secret references on the machine that needs the secret. jobfac never stores the value."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from jobfac.definitions import Secret
from jobfac.errors import JobfacError
from jobfac.machine.faults import fault_behind
from jobfac.machine.threads import AGAIN, begin, longer
from jobfac.machine.trusted import open_trusted

LARGEST = 1024 * 1024
"""Bytes of a secret at most."""

ANSWERS = 5.0
"""Seconds within which a file system, or a keyring, has to answer."""


class SecretError(JobfacError):
    """A secret cannot be resolved here. The text names the reference, never the value.

    Its cause is an OSError if the machine, or a disk for a moment, is at fault (``fault_behind``).
    """


def resolve(secret: Secret | str) -> str:
    """The value of a reference: ``env:NAME``, ``file:/path`` (without its last line end), ``keyring:service/user``.

    A file is regular, and the symbolic links in its path belong to root or to this process's user.

    Raises:
        SecretError: the secret cannot be found or read here, or what holds it has not answered within ``ANSWERS``.
    """
    reference = secret if isinstance(secret, str) else secret.secret
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise SecretError(f"the secret {reference} is not in this role's environment; set {name} there")
        return value
    read = _from_file if kind == "file" else _from_keyring
    return _result(reference, lambda: read(reference, name))


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


class _Reading:
    """The reading of a secret in a thread of its own, because a network drive or a keyring may hang for ever."""

    def __init__(self, again: float) -> None:
        """``again``: seconds until another reading begins if this one hangs."""
        self.again = again
        self._over = threading.Event()
        self._began = time.monotonic()
        self._late_at = self._began + ANSWERS
        self._found: str | Exception | None = None

    @property
    def is_left_alone(self) -> bool:
        """Whether another reading is to begin."""
        return time.monotonic() > self._began + self.again

    def end(self, found: str | Exception) -> None:
        """Hand over what was found, or raised."""
        self._found = found
        self._over.set()

    def result(self) -> str | None:
        """Wait for the value; None: it has not come in time. Raises what the reading has raised."""
        self._over.wait(max(0.0, self._late_at - time.monotonic()))
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


_readings: dict[str, _Reading] = {}
"""Those under way, by their references: one that hangs takes one thread, and later callers do not wait for it. The next
one begins when it has hung for ``again``, and that doubles: a day of hanging takes some thirty threads."""

_lock = threading.Lock()
"""Held while an entry is replaced or removed."""


def _reading_of(reference: str) -> tuple[_Reading, bool]:
    """Return the reading that is under way, or a new one, and whether it is new."""
    with _lock:
        known = _readings.get(reference)
        if known is not None and not known.is_left_alone:
            return known, False
        _readings[reference] = new = _Reading(AGAIN if known is None else longer(known.again))
        return new, True


def _result(reference: str, read: Callable[[], str]) -> str:
    """Return what ``read`` returns. Of several calls at the same time for one reference, the first one reads."""
    reading, is_new = _reading_of(reference)
    if is_new:
        try:
            begin(_read_into, reading, reference, read)
        except RuntimeError:  # no thread can begin
            _read_into(reading, reference, read)
    if (value := reading.result()) is None:
        holder = "file system" if reference.startswith("file:") else "keyring"
        raise SecretError(f"the secret {reference} has not been read within {ANSWERS:g} s; check the {holder}")
    return value


def _read_into(reading: _Reading, reference: str, read: Callable[[], str]) -> None:
    found: str | Exception = SecretError(f"the secret {reference} cannot be read")
    try:
        found = read()
    except Exception as error:
        found = error
    finally:
        with _lock:  # before the end, so that a later call finds what is there then
            if _readings.get(reference) is reading:
                del _readings[reference]
        reading.end(found)


def _from_file(reference: str, name: str) -> str:
    try:
        return _read_twice(Path(name)).decode().removesuffix("\n")
    except UnicodeDecodeError:  # it has the value, so it is no cause to show
        raise SecretError(f"the secret {reference} cannot be read: it is not UTF-8 text") from None
    except OSError as error:
        raise SecretError(f"the secret {reference} cannot be read: {error.strerror}") from fault_behind(error)


def _read_twice(path: Path) -> bytes:
    """Read a file, once more if its folder has been exchanged meanwhile, as Kubernetes and deployments do."""
    try:
        return _read(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return _read(path)


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
    except Exception as error:  # keyrings of the system have errors of their own
        raise SecretError(f"the secret {reference} cannot be read from the keyring: {error}") from None
    if value is None:
        raise SecretError(f"the secret {reference} is not in the keyring of this machine")
    return str(value)
