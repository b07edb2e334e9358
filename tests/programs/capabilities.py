"""Capabilities of a thread, as of capset(2): a test takes some away from itself and gets them back."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

SYS_PTRACE, SYS_ADMIN, PERFMON = 19, 21, 38
_VERSION = 0x20080522


@contextmanager
def without_capabilities(*numbers: int) -> Iterator[None]:
    """Inside, this thread and those that it starts lack these capabilities. It keeps the right to take them back."""
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same for numbers from 32 on
    _call("capget", header, sets)
    fewer = (ctypes.c_uint32 * 6)(*sets)
    for number in numbers:
        fewer[number // 32 * 3] &= ~(1 << number % 32)
    _call("capset", header, fewer)
    try:
        yield
    finally:
        _call("capset", header, sets)


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)
