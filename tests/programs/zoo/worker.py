"""A minimal worker: executes one line at a time, so that a test can kill or freeze it at any point."""

import contextlib
import os
import shlex
import sys

from jobfac.programs import Guardian, Process, Program, become_subreaper, start

become_subreaper()
guardian = Guardian()
guardian.start()
running: dict[str, Process] = {}
null = os.open(os.devnull, os.O_WRONLY)
for line in sys.stdin:
    word, *rest = shlex.split(line)
    if word == "start":
        marker, *argv = rest
        guardian.about_to_start([marker])
        running[marker] = start(Program(tuple(argv), marker, {"PATH": os.defpath}), null, null)
        guardian.started([(marker, running[marker].pid)])
        print(running[marker].pid, flush=True)
    elif word == "renew":
        guardian.renewed(float(rest[0]))
        print("renewed", flush=True)
    elif word == "ended":
        guardian.ended([rest[0]])
        print("ended", flush=True)
    elif word == "guardian":
        print(guardian.pid, flush=True)
    elif word == "close":
        guardian.close()
        print("closed", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
