"""Starts, watches and stops one program and every process that it starts."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobfac.programs.cgroup import Group, Limits
from jobfac.programs.children import children, is_dead, regular_file
from jobfac.programs.failures import StartError, explain
from jobfac.programs.files.becoming import Becoming, File, OutputFile, become
from jobfac.programs.files.identity import other_user
from jobfac.programs.gate import Gate, inheriting
from jobfac.programs.tree import Entry, Looks, Table, entry, kill_found, now, refuses_signals, send
from jobfac.programs.usage import Exit, Meter, Usage, reap

SOON = 1.0
"""Seconds after which a kill ends although new processes appear. The caller kills again."""


@dataclass(frozen=True)
class Program:
    """A program to start. `environment` is complete, except for JOBFAC_MARKER, which is added from `marker`.

    marker: unique to the execution, without spaces. detach: do not end the processes that it leaves running.
    limits: of its whole tree, by a cgroup. files: of stdout and stderr, opened as its user.
    """

    argv: tuple[str, ...]
    marker: str
    environment: Mapping[str, str]
    directory: str | None = None
    user: str | None = None
    detach: bool = False
    limits: Limits | None = None
    files: tuple[OutputFile | None, OutputFile | None] = (None, None)


class Process:
    """A started program with its process tree. Any thread may call every method.

    Attributes:
        refuses: a signal was refused, because the program has become another user, as sudo does.
        was_signalled: it got a signal before its end.
    """

    def __init__(
        self,
        program: Program,
        pid: int,
        since: int,
        outputs: Iterable[int],
        group: Group | None = None,
        becoming: Becoming | None = None,
    ) -> None:
        """``becoming``: its start by a process that becomes it."""
        self.pid = pid
        self.group = group
        self.marker = program.marker
        self.user = os.geteuid() if becoming is None or becoming.uid is None else becoming.uid
        self.started = time.monotonic()
        self.exit: Exit | None = None
        self.refuses = self.was_signalled = False
        self.detach = program.detach
        self.since = since
        self.meter = Meter()
        self._outputs = frozenset(file for number in outputs if (file := regular_file(number)))
        self._becoming = becoming
        self._members: dict[int, int] = {}  # known processes of the tree: PID -> start
        self._had_orphans = False

    @property
    def outputs(self) -> frozenset[File]:
        """The regular files that its output goes to."""
        if self._becoming is None:
            return self._outputs
        self._becoming.read()
        return self._outputs | (self._becoming.files or frozenset())

    @property
    def not_started(self) -> StartError | None:
        """After the end: why the process did not become the program (``Becoming.failure``)."""
        return None if self._becoming is None else self._becoming.failure

    def poll(self) -> Exit | None:
        """Reap the main program if it has ended. Never blocks.

        While the machine cannot show its processes, the end is not noticed: the program might have left some.
        """
        with children.lock:
            if self.exit is None and is_dead(self.pid):
                try:
                    self._record_left()  # its PID still identifies its orphans
                except OSError as error:
                    children.failed(error)
                    return None
                if (ended := reap(self.pid, self.meter)) is None:
                    return None
                if self._becoming is not None:
                    self._becoming.ended(ended.code)
                self.exit = ended
                if self._members:
                    looks.add(self)
                self._had_orphans = bool(self._members or children.orphans(self))
                children.remove_program(self)
            return self.exit

    def _record_left(self) -> None:
        if children.adopting:
            children.sweep_for([self])
            self._remember(children.orphans(self))
        elif not self.detach:
            self._members = {one.pid: one.start for one in _trees([self])[0].values()}

    def leftovers(self) -> list[int]:
        """PIDs of the tree that are alive after the main program's end. Empty before it, and for a detached program.

        Once the result was empty after the end, further calls cost nothing. Others may be out of date (``tree.Looks``).
        """
        with children.lock:
            if self.exit is None or self.detach:
                return []
            if self._members and (programs := looks.due(self)):
                try:
                    with looks.timed():
                        found = _trees(programs)
                except OSError as error:
                    children.failed(error)
                    return sorted(self._members)
                for program, tree in zip(programs, found, strict=True):
                    program._members = {one.pid: one.start for one in tree.values()}
                    if not program._members:
                        looks.forget(program)
            return sorted(self._members)

    def sample(self) -> None:
        """Sample the memory of the main program, if it is alive and it is time for a sample."""
        with children.lock:
            if self.exit is None:
                self.meter.sample(self.pid, time.monotonic() - self.started)

    def usage(self) -> Usage:
        """What the tree has used: the main program, what it waited for, and orphans that were reaped."""
        with children.lock:
            if self._had_orphans:
                children.try_sweep()
            used = self.meter.usage()
        return used if self.group is None else self.group.usage(used)

    def alive(self) -> bool:
        """Whether the main program or a leftover is alive."""
        return self.poll() is None or bool(self.leftovers())

    def terminate(self) -> None:
        """Send TERM to the whole tree."""
        terminate_all([self])

    def kill(self) -> None:
        """Send KILL to the whole tree, again for processes that were forked meanwhile."""
        kill_all([self])

    def _remember(self, pids: Iterable[int]) -> None:
        self._members |= {one.pid: one.start for pid in pids if (one := entry(pid))}

    def _tree(self, table: Table, by_marker: Mapping[str, list[int]]) -> dict[int, Entry]:
        """Return the living members of the tree in this table; empty for a detached program that has ended."""
        if self.exit is not None and self.detach:
            return {}
        self._remember(children.orphans(self))
        seeds = [pid for pid, start in self._members.items() if table.holds(pid, start)]
        seeds += children.marked(self, by_marker)
        late = {pid: one for pid in children.orphans(self) if pid not in table.entries and (one := entry(pid))}
        own = [self.pid] if children.holds(self) else []
        return table.family([*seeds, *own], sessions=own) | late


def start(program: Program, stdout_fd: int, stderr_fd: int) -> Process:
    """Start a program in its own session and process group, with the null device as stdin.

    The caller keeps the descriptors of stdout and stderr open. A program of another user, or with output files, may
    still fail to start after this, and then ends with the reason in ``not_started``.

    Raises:
        StartError: the program cannot be started.
    """
    if not program.argv:
        raise StartError("the command is empty; give a program to run")
    environment = {**program.environment, "JOBFAC_MARKER": program.marker}
    identity = other_user(program.user)
    since = now()
    with children.lock, inheriting(program.marker), Gate(program.argv, program.limits, program.marker) as gate:
        becoming: Becoming | None = None
        try:
            gate.check(environment, program.directory)
            if identity is not None or any(program.files):
                user = None if identity is None else program.user
                pid, becoming = become(
                    user, identity, gate.argv, environment, program.directory, program.files, program.marker,
                    gate.stdin, stdout_fd, stderr_fd,
                )  # fmt: skip
            else:
                handle = subprocess.Popen(
                    gate.argv,
                    stdin=gate.stdin,
                    stdout=stdout_fd,
                    stderr=stderr_fd,
                    cwd=program.directory,
                    env=environment,
                    start_new_session=True,
                )
                handle.returncode = 0  # prevents Popen from reaping the process; poll() does that
                pid = handle.pid
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            sentence = explain(program.argv, environment, program.directory, program.user, error)
            raise StartError(sentence) from error
        process = Process(program, pid, since, (stdout_fd, stderr_fd), gate.group, becoming)
        children.add_program(process)
        try:
            gate.open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            children.remove_program(process)
            raise StartError(f"{program.argv[0]!r} cannot be put into its cgroup: {error.strerror}") from error
    return process


looks: Looks[Process] = Looks()


def terminate_all(processes: Iterable[Process], but_groups: bool = False) -> bool:
    """Send TERM to the trees of all these programs.

    Returns False if the machine cannot show its processes: only the groups of the programs got it. Later the rest has
    to get it (``but_groups``).
    """
    with children.lock:
        return _signal_trees(list(processes), signal.SIGTERM, but_groups)


class Signals:
    """The signals of a turn of the loop, sent together: one look at all processes finds the trees of all programs.

    With thousands of processes and a look for each of many programs, the loop would stand still for a whole lease.
    """

    PAUSE = 0.5
    """Seconds after which to send again what could not be sent."""

    def __init__(self, at_once: bool = False) -> None:
        """``at_once``: send each without waiting for ``send``."""
        self._at_once = at_once
        self._terminate: list[Process] = []
        self._rest: list[Process] = []  # whose groups have got TERM
        self._kill: list[Process] = []

    @property
    def is_incomplete(self) -> bool:
        """Whether ``send`` has to be called again, because the machine could not show its processes."""
        return bool(self._rest or self._kill)

    def add(self, process: Process, kill: bool) -> None:
        """Record that a program gets KILL, or else TERM."""
        (self._kill if kill else self._terminate).append(process)
        if self._at_once:
            self.send()

    def send(self) -> None:
        """Send what was recorded, and what could not be sent before."""
        terminate, rest, kill = self._terminate, self._rest, self._kill
        self._terminate, self._rest, self._kill = [], [], []
        for processes, but_groups in ((rest, True), (terminate, False)):
            if processes and not terminate_all(processes, but_groups):
                self._rest += processes
        if kill and not kill_all(kill):
            self._kill += kill


def kill_all(processes: Iterable[Process]) -> bool:
    """Send KILL to the trees of all these programs, until no new process appears, for at most ``SOON`` seconds.

    Returns False if the machine cannot show its processes: perhaps only the groups of the programs got it.
    """
    processes = list(processes)
    with children.lock:
        if not _signal_trees(processes, signal.SIGKILL):
            return False
    try:
        kill_found(lambda: (one for tree in _trees(processes) for one in tree.values()), SOON)
    except OSError as error:
        children.failed(error)
        return False
    return True


def _trees(processes: list[Process]) -> list[dict[int, Entry]]:
    """Return the living trees of the processes. Records the members, because a dead parent cannot lead to them."""
    if not processes:
        return []
    with children.lock:
        table = Table.read()
        # All that a program has left descends from it, or was adopted. Elsewhere only a marker shows it.
        since = min(process.since for process in processes)
        by_marker = {} if children.adopting else table.pids_by_marker(since)
        # Finds what is not in the table, because its parent has started it since and has ended.
        children.sweep_for(processes)
        found = [process._tree(table, by_marker) for process in processes]
        for process, tree in zip(processes, found, strict=True):
            process._members |= {one.pid: one.start for one in tree.values()}
        return found


def _signal_trees(processes: list[Process], number: signal.Signals, but_groups: bool = False) -> bool:
    """Send a signal to every member: to a group at once if its leader is not reaped yet, one by one to the others.

    Returns False if only the groups got it, which need no look at all processes. ``but_groups``: they have got it.
    """
    found: list[dict[int, Entry]] = []
    groups = {process.pid: process for process in processes if process.poll() is None}
    fault: OSError | None = None
    try:
        found = _trees(processes)
    except OSError as error:
        fault = error
    finally:
        for group, process in ({} if but_groups else groups).items():
            process.was_signalled = process.was_signalled or not is_dead(group)
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                pass
            except PermissionError:
                process.refuses = True
    try:
        if fault is not None:
            raise fault
        for process, tree in zip(processes, found, strict=True):
            for one in tree.values():
                if one.group not in groups:
                    send(one.pid, one.start, number)
            # A group takes a signal if one member does, and sudo passes TERM on.
            if number == signal.SIGKILL:
                process.refuses = process.refuses or any(map(refuses_signals, tree))
    except OSError as error:
        children.failed(error)
        return False
    return True
