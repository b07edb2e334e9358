"""Scripts of Agent jobs become definitions that apply as they are and are due when Agent would run them.

After a change that is meant, ``JOBFAC_TEST_WRITE=1 pytest tests/unit/importers/agent`` writes the expected files anew.
"""

import os
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from jobfac.definitions import Job, Schedule, Sequence, loads
from jobfac.importers.agent import Converter, Options, read_scripts, write
from jobfac.importers.agent.script import decode
from jobfac.recurrence import due_times
from tests.tds_server import grammar
from tests.unit.importers.agent.cases import CASES, CORPUS
from tests.unit.importers.agent.reference import next_runs, parameters

OPTIONS = Options("UTC", "env:SQL_AGENT_URL")
AFTER = datetime(2026, 1, 14, 23, 59, 30, tzinfo=UTC)
UNTIL = datetime(2060, 1, 1, tzinfo=UTC)


def imported(name: str) -> tuple[str, str]:
    """The YAML of a script, and its warnings, a line each."""
    agent = read_scripts(iter([(f"{name}.sql", (CORPUS / name / "script.sql").read_bytes())]))
    converter = Converter(agent, OPTIONS)
    text = write(converter.convert())
    return text, "".join(f"{remark}\n" for remark in converter.remarks)


def test_the_corpus_is_as_it_was_written() -> None:
    assert len(CASES) >= 25
    assert {path.name for path in CORPUS.iterdir()} == set(CASES)
    for name, script in CASES.items():
        written = script if isinstance(script, bytes) else script.encode()
        assert (CORPUS / name / "script.sql").read_bytes() == written


def test_the_scripts_are_valid_by_the_grammar_of_microsoft(tmp_path: Path) -> None:
    for name in set(CASES) - {"broken"}:
        text, _ = decode((CORPUS / name / "script.sql").read_bytes())
        (tmp_path / f"{name}.sql").write_text(text, encoding="utf-8")
    assert grammar.check_files(list(tmp_path.iterdir())) == []


@pytest.mark.parametrize("name", CASES)
def test_a_script_becomes_these_definitions_and_warnings(name: str) -> None:
    found = dict(zip(("expected.yaml", "warnings.txt"), imported(name), strict=True))
    assert imported(name) == tuple(found.values())
    for file, text in found.items():
        path = CORPUS / name / file
        if os.environ.get("JOBFAC_TEST_WRITE"):
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_can_be_applied_and_starts_nothing(name: str) -> None:
    definitions = loads((CORPUS / name / "expected.yaml").read_text(encoding="utf-8"))
    assert definitions.jobs
    assert not any(job.enabled for job in definitions.jobs.values())
    for job in definitions.jobs.values():
        assert isinstance(job, Sequence) or job.command or job.sql
        assert not isinstance(job, Job) or job.sql is None or job.sql.connection.secret == OPTIONS.connection


TAKEN = {"shared_schedules": [0, 0], "odd_schedules": [10]}
"""Of scripts whose schedules are shared, unused or wrong: which of them the jobs have, in order."""


@pytest.mark.parametrize("name", CASES)
def test_the_next_fifty_runs_are_those_of_agent(name: str) -> None:
    definitions = loads((CORPUS / name / "expected.yaml").read_text(encoding="utf-8"))
    ours: list[Schedule] = [schedule for job in definitions.jobs.values() for schedule in job.schedules]
    script, _ = decode((CORPUS / name / "script.sql").read_bytes())
    theirs = parameters(script)
    theirs = [theirs[at] for at in TAKEN[name]] if name in TAKEN else [one for one in theirs if one["freq_type"] < 64]
    assert len(ours) == len(theirs)
    for schedule, told in zip(ours, theirs, strict=True):
        expected = next_runs(told, AFTER.replace(tzinfo=None), 50)
        found = [due.replace(tzinfo=None) for due in islice(due_times(schedule, AFTER, UNTIL), 50)]
        assert found == expected
        assert schedule.enabled == bool(told["enabled"])


def test_the_scripts_with_schedules_cover_every_type() -> None:
    told = [one for name in CASES for one in parameters(decode((CORPUS / name / "script.sql").read_bytes())[0])]
    assert {one["freq_type"] for one in told} >= {1, 4, 8, 16, 32, 64, 128}
    assert {one.get("freq_subday_type") for one in told} >= {1, 2, 4, 8}
    assert {one.get("freq_relative_interval") for one in told} >= {1, 2, 4, 8, 16}
