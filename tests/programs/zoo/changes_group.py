"""Starts a child in its own process group."""

import os
import time

if pid := os.fork():
    os.setpgid(pid, pid)
    print(pid, flush=True)
    time.sleep(600)
else:
    time.sleep(600)
