"""The job program of a chaos run, started with SECONDS CODE [child]. It records its start, life and end in a journal.

It locks its run's file. The lock is released when the last of its processes has ended, so an execution that cannot get
the lock knows that another execution of the same run is alive. With ``child`` it starts a process in a session of its
own, which holds the lock as well.
"""

import fcntl
import os
import subprocess
import sys
import time

seconds, code = float(sys.argv[1]), int(sys.argv[2])
folder, run, attempt = os.environ["CHAOS_JOURNAL"], os.environ["JOBFAC_RUN_ID"], os.environ["JOBFAC_ATTEMPT"]
log = os.open(f"{folder}/{run}-{attempt}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
lock = os.open(f"{folder}/{run}.lock", os.O_RDWR | os.O_CREAT)
os.set_inheritable(lock, True)


def say(word: str, value: int = 0) -> None:
    """Append a line to the journal: word, time and a number."""
    os.write(log, f"{word} {time.time():.3f} {value}\n".encode())


try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    say("overlap")
say("start", os.getpid())
if "child" in sys.argv:
    subprocess.Popen(["sleep", "30"], start_new_session=True, close_fds=False)
end = time.monotonic() + seconds
while (left := end - time.monotonic()) > 0:
    time.sleep(min(0.1, left))
    say("alive")
say("end", code)
sys.exit(code)
