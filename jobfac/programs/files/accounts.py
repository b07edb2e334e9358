"""The accounts of the users that programs run as.

A child process asks for them: the name services behind them, such as a directory server, may hang for minutes, and
``os.getgrouplist`` keeps all threads of a process waiting for them. It runs as `python -I -S accounts.py USER`.
"""

import json
import os
import pwd
import subprocess
import sys
import time
from typing import TypedDict

PATIENCE = 5.0
"""Seconds to wait for the name services if the account is known from before. Then it counts as it was."""

LIMIT = 60.0
"""Seconds to wait if it is not known."""

FRESH = 30.0
"""Seconds after which an account is asked for again."""

MISSING = 5.0
"""Seconds for which a user that does not exist is not asked for again: its name services may be slow, too."""

COMMAND = (sys.executable, "-I", "-S", __file__)
"""Prints an account as JSON; ``null``: there is none. Its argument is the name of the user."""


class Account(TypedDict):
    """A user: its id, that of its group, those of its other groups, and its home."""

    user: int
    group: int
    extra_groups: list[int]
    home: str


class Accounts:
    """The accounts that were asked for. Any thread may call it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Account | None, float]] = {}  # with the time of the answer (monotonic seconds)

    def known(self, name: str) -> Account | None:
        """Return the account of the last answer; None: there is none, or nobody has asked for it."""
        return self._known.get(name, (None, 0.0))[0]

    def find(self, name: str, limit: float) -> Account | None:
        """Return the account of the last answer, and ask only if there is none. Raises as ``ask`` does."""
        found, at = self._known.get(name, (None, -MISSING))
        return found if found is not None or time.monotonic() < at + MISSING else self.ask(name, limit)

    def is_fresh(self, name: str) -> bool:
        """Whether somebody has asked for the account just before, and it exists."""
        found, at = self._known.get(name, (None, 0.0))
        return found is not None and time.monotonic() < at + FRESH

    def ask(self, name: str, limit: float = LIMIT) -> Account | None:
        """Ask for an account; None: there is none. One that is known counts if the name services do not answer.

        Args:
            limit: seconds to wait for one that is not known.

        Raises:
            TimeoutError: the name services have not answered.
            OSError: the process that asks cannot be started, or has failed. If the installation of jobfac is at fault,
                it is an InstallationFault.
        """
        from jobfac.programs.failures import InstallationFault, check_installation  # not there for the child process

        check_installation()
        known = self.known(name)
        try:
            done = subprocess.run(
                [*COMMAND, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                timeout=limit if known is None else PATIENCE, check=False,
            )  # fmt: skip
            if done.returncode:
                how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
                failed = f"the process that asks for it ended with {how}"
                if done.returncode < 0:  # the name services run in it, and may fail for this user alone
                    raise OSError(f"{failed}; check the name services that /etc/nsswitch.conf names")
                raise InstallationFault(f"{failed}; repair the installation of jobfac on this worker")
            found: Account | None = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            if known is None:
                raise TimeoutError from None
            found = known
        self._known[name] = found, time.monotonic()
        return found


accounts = Accounts()


def main(name: str) -> None:
    found = None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        pass
    else:
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        found = Account(user=entry.pw_uid, group=entry.pw_gid, extra_groups=groups, home=entry.pw_dir)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
