"""Reserves file descriptors for the worker itself: its programs need descriptors of the same process limit."""

import errno
import os
import resource

from jobfac.programs.failures import MACHINE

RESERVE = 32  # for database connections, reads of the process table, and a new guardian
EACH = 5  # two spool files and the exit descriptor; during the start, both ends of a pipe

NO_ROOM = f"the program was not started: {MACHINE[errno.EMFILE]}"


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open now. An administrator can change it at any time."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if limit == resource.RLIM_INFINITY else limit


def room_for_programs() -> int:
    """Return how many more programs this process can start without using its reserve of descriptors."""
    limit = descriptor_limit()
    try:
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 (hot)
    except OSError:
        return 0
    return max(0, (limit - used - RESERVE) // EACH)
