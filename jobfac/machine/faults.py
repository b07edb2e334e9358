"""Tells an error that a machine causes for a moment from one that a path or a name causes."""

import errno

from jobfac.machine.disk import FAILING

LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of a machine that lacks descriptors or memory."""

PASSING = FAILING | {errno.EAGAIN, errno.ENOSPC}

OF_NO_FILE = FAILING | LACKING | {errno.EAGAIN, errno.EINTR, errno.EROFS}
"""Errors of opening and reading a file that say nothing of the file: a later try may succeed."""


class PassingFault(OSError):
    """A fault that may be over at the next try, though the machine is well otherwise."""


def fault_behind(error: OSError) -> OSError | None:
    """Return the cause to name for an error of a file other than a program's or a worker's own.

    It is the error itself if the machine lacks something that all starts need, and a PassingFault if a disk, its server
    or the kernel has refused for now. None: what the path names is at fault, or its owner.
    """
    if error.errno in LACKING:
        return error
    return PassingFault(str(error)) if error.errno in PASSING else None
