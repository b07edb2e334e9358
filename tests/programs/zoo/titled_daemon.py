"""Becomes a daemon that writes a title over its arguments and environment, as perl and ssh do. Prints its PID."""

import ctypes
import runpy
from pathlib import Path

fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
start, end = int(fields[45]), int(fields[48])  # from the first argument to the end of the environment
ctypes.memset(start, ord(" "), end - start)
ctypes.memmove(start, b"a title", 7)
runpy.run_path(str(Path(__file__).with_name("daemon.py")))
