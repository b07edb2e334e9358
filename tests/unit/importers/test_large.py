"""Large imports take a time that grows with their size, not with its square. CPU time does not depend on the load."""

import time
import tracemalloc

import pytest

from jobfac.cli.commands.importing.crontab import free_name
from jobfac.importers.agent import Converter, Options, read_scripts


def test_a_job_of_agent_with_thousands_of_steps_is_read_in_seconds() -> None:
    step = "EXEC msdb.dbo.sp_add_jobstep @job_name=N'J', @step_name=N's', @command=N'x', @on_success_action=3"
    script = "\n".join(["EXEC msdb.dbo.sp_add_job @job_name=N'J'", *[step] * 4000])
    began = time.process_time()
    found = read_scripts(iter([("x.sql", script.encode())]))
    (defined,) = Converter(found, Options("UTC", "env:X")).convert()
    assert time.process_time() - began < 4, "it took 10 s when each step looked at all others, and takes 1 s"
    assert len(defined.bodies) == 4001
    assert {"J", "J.s", "J.s-2", "J.s-4000"} <= defined.bodies.keys()


@pytest.mark.parametrize("mark", ["[a", "/*"])
def test_a_step_with_many_marks_that_nothing_ends_is_read_in_seconds(mark: str) -> None:
    step = f"EXEC msdb.dbo.sp_add_jobstep @job_name=N'J', @step_name=N's', @command=N'{mark * 200_000}'"
    found = read_scripts(iter([("x.sql", f"EXEC msdb.dbo.sp_add_job @job_name=N'J'\n{step}".encode())]))
    began = time.process_time()
    Converter(found, Options("UTC", "env:X")).convert()
    assert time.process_time() - began < 1.5


def test_a_variable_that_doubles_does_not_fill_the_memory() -> None:
    script = ["DECLARE @x NVARCHAR(MAX) = N'a'", *["SET @x = @x + @x"] * 28, "EXEC msdb.dbo.sp_add_job @job_name=@x"]
    tracemalloc.start()
    try:
        read_scripts(iter([("x.sql", "\n".join(script).encode())]))
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_thousands_of_names_are_free_or_get_a_number_in_no_time() -> None:
    taken: dict[str, int] = {}
    began = time.process_time()
    names = [free_name(name, taken) for name in ["a", "A", "a-2", *[f"cron-{n}" for n in range(20_000)], *["b"] * 5000]]
    assert time.process_time() - began < 2
    assert names[:4] == ["a", "A-2", "a-2-2", "cron-0"]
    assert names[-1] == "b-5000"
    assert len({name.lower() for name in names}) == len(names)
