"""The environment of a program: the allow-listed variables of its worker, and those of its user."""

import os
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from jobfac.programs import account, other_user

ALLOWED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR")
"""Variables that programs inherit from the worker, besides LC_*."""

SHELL = "/bin/sh"
"""What a program finds in SHELL, as under cron. The login shell of an account for services refuses each command, and
`flock -c`, `script -c` and others use the shell that SHELL names."""

PAYLOAD_IN_ENVIRONMENT = 32 * 1024
"""Maximum characters of a payload that is also passed in ``JOBFAC_PAYLOAD``. Linux allows 128 KiB in a variable."""


@cache
def base_environment() -> Mapping[str, str]:
    """Return the worker's environment, reduced to the allow-list."""
    kept = {name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith("LC_")}
    return MappingProxyType({"PATH": os.defpath, "SHELL": SHELL, **kept})


def environment_of(user: str) -> dict[str, str]:
    """Return the variables of a program that runs as this user: its own home and login.

    Another user than the worker's cannot write into a folder for temporary files that is the worker's alone.

    Raises:
        StartError: there is no such user, or the name services do not answer.
    """
    base = dict(base_environment())
    if other_user(user) is not None:
        base.pop("TMPDIR", None)
    return base | {"HOME": account(user)["home"], "USER": user, "LOGNAME": user}
