"""Prints the given number of MiB as fast as possible; each begins with its number."""

import os
import sys

for number in range(int(sys.argv[1])):
    os.write(1, b"%08d" % number + b"x" * (1024 * 1024 - 9) + b"\n")
