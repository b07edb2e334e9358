"""Signals of a role. The main thread handles them; the role works in a thread of its own."""

import os
import select
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


def on_signal(react: Callable[[bool], None]) -> None:
    """Call ``react(True)`` at the first TERM, INT or HUP, ``react(False)`` at a later TERM or INT.

    It runs in a signal handler. A terminal that closes sends HUP, and its shell may send it once more.
    """
    count = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count
        if number == signal.SIGHUP and count:
            return
        count += 1
        react(count == 1)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # under nohup it is ignored
        signal.signal(signal.SIGHUP, handle)


def run_in_thread(run: Callable[[], None]) -> None:
    """Run a role in a thread of its own, because a signal must not wait until a driver of the database returns.

    Call it from the main thread, which handles signals. The kernel may deliver a signal to any thread. Python then
    notes it, but does not wake a main thread that waits for a lock. It does write to the wakeup descriptor, so the main
    thread waits for that.
    """
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    poll = select.poll()  # unlike select, it takes descriptors above 1023, which a parent may have left open
    poll.register(reader, select.POLLIN)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # a full pipe wakes the thread, too
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="role") as thread:
            role = thread.submit(run)
            role.add_done_callback(lambda _: _wake(writer))
            while not role.done():
                poll.poll()
                os.read(reader, 4096)
            role.result()
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _wake(writer: int) -> None:
    with suppress(BlockingIOError):
        os.write(writer, b".")
