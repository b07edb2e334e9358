"""The five experiments for a real SQL Server, on the test server as far as it goes: what it cannot answer is said."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobfac.database.engine import Database
from tests.real_server.experiments import plans, report
from tests.real_server.experiments.place import Finding, Place
from tests.support.engines import DRIVERS

PLAN = """\
<ShowPlanXML xmlns="http://schemas.microsoft.com/sqlserver/2004/07/showplan"><BatchSequence><Batch><Statements>
<StmtSimple><QueryPlan>
<Warnings><PlanAffectingConvert ConvertIssue="Seek Plan" Expression="CONVERT_IMPLICIT(datetime2(7),[day],0)=[@P1]"/>
</Warnings>
<RelOp PhysicalOp="Nested Loops"><NestedLoops>
<RelOp PhysicalOp="Index Seek"><IndexScan>
<Object Schema="[jobfac]" Table="[run]" Index="[ix_run_claim]"/></IndexScan></RelOp>
<RelOp PhysicalOp="Clustered Index Scan"><IndexScan>
<Object Schema="[jobfac]" Table="[attempt]" Index="[pk_attempt]"/></IndexScan></RelOp>
<RelOp PhysicalOp="Clustered Index Scan"><IndexScan>
<Object Schema="[sys]" Table="[sysobjvalues]" Index="[x]"/></IndexScan></RelOp>
</NestedLoops></RelOp></QueryPlan></StmtSimple></Statements></Batch></BatchSequence></ShowPlanXML>
"""


@pytest.fixture
def place(tds: Any, tmp_path: Path) -> Iterator[Place]:
    from tests.tds_server import harness

    with tds.database(f"experiments{tmp_path.name}".replace("_", ""), template="migrated") as name:
        db = Database(harness.url(tds.port, DRIVERS[0], name).render_as_string(hide_password=False))
        yield Place(db, tmp_path, seconds=0.2, sizes=(0, 700), workers=1)
        db.close()


@pytest.mark.mssql
@pytest.mark.slow
def test_the_report_has_an_answer_to_every_question(place: Place) -> None:
    said: list[str] = []
    report.write(place, said.append)
    text = "\n".join(said)
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == [
        "Server", "1. Hints", "2. Plans", "3. Blocking", "4. Deadlocks", "5. Plan cache",
    ]  # fmt: skip
    assert "ended early" not in text, text
    for line in (
        "- version: **16.0.4165.4**",
        "- READ_COMMITTED_SNAPSHOT: **True**",
        "- RCSI on: SKIP, WITH (UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK): **accepted**",
        "- RCSI off: PASS reads a row that is locked with UPDLOCK: **yes, yes expected**",
        "- RCSI off: SKIP reads a row that is changed: **no, no expected**",
        "an open start_job of a job with a limit, for 0.2 s: **10 of 10 processes of programs live",
        "- an open stop_run, for 0.2 s: **10 of 10 processes of programs live",
        "- an offline rebuild of ix_run_claim, for 0.2 s: **10 of 10 processes of programs live",
    ):
        assert line in text, text
    assert re.search(r"RCSI on: everything together for 0.2 s: \*\*\d+ × 1205, 0 × 1222, 0 × 51222; \d+ trans", text), (
        text
    )
    assert "other errors" not in text, text
    # What the test server is not: it has no plans and no dynamic management views.
    for question in ("700 old runs: plans", "xml_deadlock_report in system_health", "the most plans of one statement"):
        assert re.search(rf"{re.escape(question)}: \*\*not answered: ", text), text
    assert place.has_snapshot(), "the option is restored"


def test_a_plan_is_read_for_what_it_scans_and_converts() -> None:
    reading = plans.read_plan(PLAN)
    assert reading.accesses == {"Index Seek run.ix_run_claim", "Clustered Index Scan attempt.pk_attempt"}
    assert reading.scans == ["Clustered Index Scan attempt.pk_attempt"]
    assert len(reading.conversions) == 1
    found = {one.question: one for one in plans.judge({"claim": reading}, 50)}
    assert found["50 old runs: claim"].is_trouble
    assert found["50 old runs: wait"] == Finding("50 old runs: wait", "no plan of it is in the cache")


def test_the_kinds_of_statements_are_told_apart() -> None:
    texts = {
        "claim": "(@P1 nvarchar(4000),@P2 bigint)WITH next AS (SELECT TOP 5 run.id FROM jobfac.run WITH (UPDLOCK",
        "wait": "SET NOCOUNT ON; DECLARE @work INT; WAITFOR DELAY '00:00:00.040'",
        "purge": "(@P1 nvarchar(max))DELETE FROM jobfac.run FROM jobfac.run WITH (ROWLOCK, FORCESEEK), (SELECT * FROM",
        "held": "SELECT jobfac.run.id FROM jobfac.run WITH (ROWLOCK, UPDLOCK, FORCESEEK) WHERE state IN",
        "insert": "INSERT INTO jobfac.run (job) VALUES (@P1)",
    }
    assert {kind: plans.kind_of(text) for kind, text in texts.items()} == {kind: kind for kind in texts}
    assert plans.kind_of("SELECT 1") is None
