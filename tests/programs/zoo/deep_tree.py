"""Starts a tree of depth five: each level starts the next one twice, every second time in its own session."""

import os
import subprocess
import sys
import time

depth = int(sys.argv[1])
print(os.getpid(), flush=True)
if depth:
    for _ in range(2):
        subprocess.Popen([sys.executable, "-S", __file__, str(depth - 1)], start_new_session=depth % 2 == 0)
time.sleep(600)
