"""Which user a program becomes."""

import os

from jobfac.programs.failures import StartError
from jobfac.programs.files.accounts import Account, accounts
from jobfac.programs.files.inquiry import User, no_answer

ACCOUNT = 10.0
"""Seconds to wait for a user's account for which nobody has asked before."""


def account(name: str) -> Account:
    """Return a user's account. Asks for it only if nobody has before (see ``Places``).

    Raises:
        StartError: the user does not exist, or the name services do not answer. Its cause is an OSError if the machine
            may be at fault, and UserInDoubt if nobody can say now whether the user exists.
    """
    try:
        found = accounts.find(name, ACCOUNT)
    except TimeoutError:
        raise StartError(no_answer(User(name), ACCOUNT)) from None
    except (OSError, ValueError) as error:
        raise StartError(f"the account of user {name!r} cannot be looked up: {error}") from error
    if found is None:
        raise StartError(f"there is no user {name!r} on this worker; create it or correct the job's user")
    return found


def other_user(name: str | None) -> Account | None:
    """Return the account of the user to switch to; None: no switch is needed. Raises as ``account`` does."""
    found = None if name is None else account(name)
    return None if found is None or _is_this_process(found) else found


def _is_this_process(found: Account) -> bool:
    """Whether a program has the account's user and group already. Only root can take another group."""
    return found["user"] == os.geteuid() and (os.geteuid() != 0 or found["group"] == os.getegid())
