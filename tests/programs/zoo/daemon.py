"""Becomes a daemon in the usual way: fork, new session, fork again, closed outputs. Prints the daemon's PID."""

import os
import sys
import time

if os.fork():
    os.wait()
    sys.exit(0)
os.setsid()
if pid := os.fork():
    print(pid, flush=True)
    os._exit(0)
null = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
time.sleep(600)
