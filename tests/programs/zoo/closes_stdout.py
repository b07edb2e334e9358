"""Closes its output and continues for a while."""

import os
import sys

os.write(1, b"before")
os.close(1)
sys.stderr.write("after")
