"""Runs job programs: starts and watches them, stops their process trees, and captures their output.

It contains no SQL. It is made for Linux; docstrings say what is missing on other systems.
"""

from jobfac.programs.cgroup import Limits
from jobfac.programs.children import become_subreaper, unignore_signals
from jobfac.programs.failures import InstallationFault, StartError, check_installation, explain_file
from jobfac.programs.files.abandoned import abandoned
from jobfac.programs.files.becoming import OutputFile
from jobfac.programs.files.descriptors import NO_ROOM, descriptor_limit, room_for_programs
from jobfac.programs.files.destinations import destination_path
from jobfac.programs.files.identity import account, other_user
from jobfac.programs.files.old_files import Series, remove_timestamped
from jobfac.programs.files.places import Places
from jobfac.programs.files.private import (
    UnsafeFolder,
    file_in_the_way,
    open_private,
    private_fault,
    shorten,
    write_private,
)
from jobfac.programs.files.spool import BATCH, Chunk, Spool, SpoolName, recover, spool_path
from jobfac.programs.guarding import Guardian
from jobfac.programs.posix import Process, Program, Signals, kill_all, start
from jobfac.programs.tree import kill_marked
from jobfac.programs.usage import Exit, Usage
from jobfac.programs.watcher import ExitWatcher, why_alive

__all__ = [
    "BATCH",
    "NO_ROOM",
    "Chunk",
    "Exit",
    "ExitWatcher",
    "Guardian",
    "InstallationFault",
    "Limits",
    "OutputFile",
    "Places",
    "Process",
    "Program",
    "Series",
    "Signals",
    "Spool",
    "SpoolName",
    "StartError",
    "UnsafeFolder",
    "Usage",
    "abandoned",
    "account",
    "become_subreaper",
    "check_installation",
    "descriptor_limit",
    "destination_path",
    "explain_file",
    "file_in_the_way",
    "kill_all",
    "kill_marked",
    "open_private",
    "other_user",
    "private_fault",
    "recover",
    "remove_timestamped",
    "room_for_programs",
    "shorten",
    "spool_path",
    "start",
    "unignore_signals",
    "why_alive",
    "write_private",
]
