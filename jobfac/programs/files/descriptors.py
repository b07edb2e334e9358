"""Open files are used up by programs, but it is the worker that would die of it: so it keeps some to itself."""

import errno
import os
import resource

from jobfac.programs.failures import MACHINE

RESERVE = 32  # for the database's connections, looks at the process table, a new guardian
EACH = 5  # two spool files and the descriptor of its end; while it starts, the ends of a pipe

NO_ROOM = f"the program was not started: {MACHINE[errno.EMFILE]}"


def room_for_programs() -> int:
    """How many more programs this process can start before it would have to touch its reserve of descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    try:
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 (hot)
    except OSError:
        return 0
    return max(0, (limit - used - RESERVE) // EACH)
