"""Running other people's programs: starting, watching, stopping them with all that they start, keeping their output.

It knows no SQL. Linux is what it is made for; what other systems lack is said where it matters.
"""

from jobfac.process.children import become_subreaper, unattributed_orphans, unignore_signals
from jobfac.process.descriptors import NO_ROOM, room_for_programs
from jobfac.process.destinations import open_destination
from jobfac.process.failures import StartError
from jobfac.process.guarding import Guardian
from jobfac.process.old_files import remove_timestamped
from jobfac.process.posix import Exit, Process, Program, kill_all, start, terminate_all
from jobfac.process.spool import Chunk, Spool, SpoolName, parse_name, recover, spool_path
from jobfac.process.tree import kill_marked
from jobfac.process.watcher import ExitWatcher

__all__ = [
    "NO_ROOM",
    "Chunk",
    "Exit",
    "ExitWatcher",
    "Guardian",
    "Process",
    "Program",
    "Spool",
    "SpoolName",
    "StartError",
    "become_subreaper",
    "kill_all",
    "kill_marked",
    "open_destination",
    "parse_name",
    "recover",
    "remove_timestamped",
    "room_for_programs",
    "spool_path",
    "start",
    "terminate_all",
    "unattributed_orphans",
    "unignore_signals",
]
