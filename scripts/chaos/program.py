"""What runs during a chaos run: writes down its start, that it is alive, and its end. SECONDS CODE [child].

The lock on its run's file goes only when the last of its processes is gone, so an execution that does not get it knows
that another one of the same run is alive. With ``child`` it leaves a process in a session of its own, which holds the
lock too.
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
    """One line: what, when, and a number."""
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
