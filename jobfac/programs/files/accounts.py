"""The accounts of the users that programs run as.

A child process asks for them: the name services behind them, such as a directory server, may hang for minutes, and
``os.getgrouplist`` keeps all threads of a process waiting for them. It runs as `python -I -S accounts.py USER`.
"""

import ctypes
import errno
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from typing import NamedTuple, TypedDict

PATIENCE = 5.0
"""Seconds to wait for the name services if the account is known from before. Then it counts as it was."""

LIMIT = 60.0
"""Seconds to wait if it is not known."""

FRESH = 30.0
"""Seconds after which an account is asked for again."""

MISSING = 5.0
"""Seconds for which a user that does not exist is not asked for again: its name services may be slow, too."""

DOUBT = 3600.0
"""Seconds for which a user that is not found may still exist, if it existed before or the answer is unclear: name
services that are being restarted may answer so, too."""

NOT_REACHED, UNCLEAR = 3, 4
"""The exit codes of the child process if the name services cannot be reached, and if they answer by an error that may
mean this or that there is no such user."""

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that the child process does not cause itself."""

COMMAND = (sys.executable, "-I", "-S", __file__)
"""Prints an account as JSON; ``null``: there is none. Its argument is the name of the user."""


class Account(TypedDict):
    """A user: its id, that of its group, those of its other groups, and its home."""

    user: int
    group: int
    extra_groups: list[int]
    home: str


class UserInDoubt(OSError):
    """Nobody can say now whether there is such a user."""


class Answer(NamedTuple):
    """What the name services said last about a user.

    Attributes:
        account: the account; None: there is none.
        at: when they said so (monotonic seconds).
        doubt: why nobody can say whether there is such a user; None: they did.
        missed_at: since when they do not find the account although there may be one; None: they do, or there is none.
    """

    account: Account | None
    at: float
    doubt: str | None = None
    missed_at: float | None = None


class Accounts:
    """The accounts that were asked for. Any thread may call it."""

    def __init__(self) -> None:
        self._known: dict[str, Answer] = {}

    def known(self, name: str) -> Account | None:
        """Return the account of the last answer that had one; None: there is none, or nobody has asked for it."""
        known = self._known.get(name)
        return None if known is None else known.account

    def find(self, name: str, limit: float) -> Account | None:
        """Return the account of the last answer, and ask only if there is none. Raises as ``ask`` does."""
        known = self._known.get(name)
        if known is None or (known.account is None and time.monotonic() > known.at + MISSING):
            return self.ask(name, limit)
        if known.doubt is not None:
            raise UserInDoubt(known.doubt)
        return known.account

    def is_fresh(self, name: str) -> bool:
        """Whether somebody has asked for the account just before, and it exists."""
        known = self._known.get(name)
        if known is None or known.account is None or known.doubt is not None:
            return False
        return time.monotonic() < known.at + FRESH

    def ask(self, name: str, limit: float = LIMIT) -> Account | None:
        """Ask for an account; None: there is none. One that is known counts if the name services do not answer.

        One that was known and is not found any more, or whose answer is unclear, is in doubt for ``DOUBT`` seconds.

        Args:
            limit: seconds to wait for one that is not known.

        Raises:
            TimeoutError: the name services have not answered.
            UserInDoubt: the name services cannot be reached, the process that asks was ended from outside, or the
                account is in doubt.
            OSError: the process that asks cannot be started, or has failed. If the installation of jobfac is at fault,
                it is an InstallationFault.
        """
        from jobfac.programs.failures import InstallationFault, check_installation  # not there for the child process

        check_installation()
        before = self._known.get(name, Answer(None, 0.0))
        known = before.account
        code: int | None = None
        try:
            done = subprocess.run(
                [*COMMAND, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                timeout=limit if known is None else PATIENCE, check=False,
            )  # fmt: skip
            code = done.returncode
            if code not in (0, NOT_REACHED, UNCLEAR):
                how = f"exit code {code}" if code > 0 else f"signal {-code}"
                failed = f"the process that asks for it ended with {how}"
                if -code in FROM_OUTSIDE:
                    raise UserInDoubt(f"{failed}, as one that an operator ends, or the kernel for want of memory")
                if code < 0:  # the name services run in it, and may fail for this user alone
                    raise OSError(f"{failed}; check the name services that /etc/nsswitch.conf names")
                raise InstallationFault(f"{failed}; repair the installation of jobfac on this worker")
            found: Account | None = json.loads(done.stdout) if code == 0 else known
        except subprocess.TimeoutExpired:
            if known is None:
                raise TimeoutError from None
            found = known
        answer = _judge(name, before, found, code, time.monotonic())
        self._known[name] = answer
        if answer.doubt is not None:
            raise UserInDoubt(answer.doubt)
        return answer.account


def _judge(name: str, before: Answer, found: Account | None, code: int | None, now: float) -> Answer:
    """Return what is known of a user after a question. ``code``: the exit code of the child process; None: it hung."""
    if found is not None or (code == 0 and before.account is None):
        return Answer(found, now)
    missed_at = now if before.missed_at is None else before.missed_at
    if code != NOT_REACHED and now >= missed_at + DOUBT:
        return Answer(None, now, missed_at=missed_at)
    services = "the name services that /etc/nsswitch.conf names"
    why = f"the name services cannot be reached; check {services}"
    if before.account is not None:
        why = f"user {name!r} existed and is not found any more; check {services}, or correct the job's user"
    return Answer(before.account, now, why, missed_at)


accounts = Accounts()


def main(name: str) -> None:
    found = None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:  # Python does not tell why
        error = _error(name)
    else:
        error = 0
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        found = Account(user=entry.pw_uid, group=entry.pw_gid, extra_groups=groups, home=entry.pw_dir)
    print(json.dumps(found))
    # Those that getpwnam_r(3) names for a user that is not there. libnss_ldap answers ENOENT while nslcd is away.
    is_unclear = error in (errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM)
    sys.exit(UNCLEAR if is_unclear else NOT_REACHED if error else 0)


def _error(name: str) -> int:
    """Return the number of the error with which the name services answer; 0: there is no such user."""
    entry, text, found = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(65536), ctypes.c_void_p()
    given = name.encode(errors="surrogateescape")
    return int(ctypes.CDLL(None).getpwnam_r(given, entry, text, ctypes.c_size_t(len(text)), ctypes.byref(found)))


if __name__ == "__main__":
    main(sys.argv[1])
