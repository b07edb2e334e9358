"""What a program used, by the kernel's accounting: its whole tree counts."""

import resource
import sys

from jobfac.programs.usage import MAXRSS, Meter, peak_of
from tests.support.process_stage import Stage, finish, until

BURN = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
FILL = "x = b'x' * (%d << 20)"


def python(stage: Stage, text: str) -> tuple[float, int | None]:
    process, _, _ = stage.start(sys.executable, "-S", "-c", text)
    finish(process)
    until(lambda: not process.alive())
    return process.usage()


def test_cpu_seconds_are_those_of_the_program_and_of_what_it_waited_for(stage: Stage) -> None:
    alone, _ = python(stage, BURN)
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {BURN!r}])"
    with_child, _ = python(stage, child)
    assert 0.2 <= alone < 1.0
    assert 0.2 <= with_child < 1.0


def test_a_child_that_nobody_waited_for_counts_too(stage: Stage) -> None:
    used, _ = python(stage, f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {BURN!r}])")
    assert 0.2 <= used < 1.0


def test_peak_memory_is_that_of_the_largest_process(stage: Stage) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS
    _, peak = python(stage, FILL % ((own >> 20) + 64))
    assert peak is not None
    assert own + (64 << 20) <= peak < own + (192 << 20)


def test_a_program_smaller_than_the_worker_is_sampled(stage: Stage) -> None:
    process, _, _ = stage.start("sleep", "600")
    process.sample()
    assert process.usage().peak_memory is None, "not so soon"
    process.meter.sample(process.pid, 1.0)
    process.kill()
    finish(process)
    peak = process.usage().peak_memory
    assert peak is not None
    assert 0 < peak < 16 << 20


def test_the_times_between_samples_double() -> None:
    meter = Meter()
    for age in (0.3, 0.5, 0.7, 1.5):
        meter.sample(0, age)  # there is no such process
    meter.note_peak(5)
    meter.note_peak(3)
    assert meter.usage() == (0.0, 5)
    assert peak_of("Name:\tx\nVmHWM:\t    12 kB\n") == 12288
