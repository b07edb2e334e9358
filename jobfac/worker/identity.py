"""The registration data of a worker process."""

import os
import platform
import secrets
import socket
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from jobfac.store.workers import Registration


def registration(name: str, slots: int, pools: Sequence[str], labels: Mapping[str, str] | None) -> Registration:
    """Return the registration of this process, with a new token. ``labels`` override the default labels os and host."""
    host = socket.gethostname()
    return Registration(
        name=name,
        host=host,
        pid=os.getpid(),
        token=secrets.token_hex(8),
        version=version("jobfac"),
        slots=slots,
        pools=tuple(pools),
        labels={"os": platform.system().lower(), "host": host, **(labels or {})},
    )
