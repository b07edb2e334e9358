"""`jobfac import`: what it prints can be applied; msdb is read through Microsoft's drivers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobfac.cli.commands.importing import zones
from jobfac.cli.common import Failure
from tests.support.engines import DRIVERS
from tests.support.factory import Factory
from tests.tds_server import harness
from tests.tds_server.harness import TestServer
from tests.unit.importers.agent.cases import CORPUS

TABLES = [
    "CREATE TABLE dbo.sysjobs (job_id UNIQUEIDENTIFIER, name NVARCHAR(128), enabled TINYINT, description NVARCHAR(512),"
    " start_step_id INT, category_id INT, owner_sid VARBINARY(85), notify_level_eventlog INT, notify_level_email INT,"
    " notify_level_netsend INT, notify_level_page INT, notify_email_operator_id INT, notify_netsend_operator_id INT,"
    " notify_page_operator_id INT, delete_level INT)",
    "CREATE TABLE dbo.sysjobsteps (job_id UNIQUEIDENTIFIER, step_id INT, step_name NVARCHAR(128), subsystem"
    " NVARCHAR(40), command NVARCHAR(MAX), flags INT, cmdexec_success_code INT, on_success_action TINYINT,"
    " on_success_step_id INT, on_fail_action TINYINT, on_fail_step_id INT, server NVARCHAR(128), database_name"
    " NVARCHAR(128), database_user_name NVARCHAR(128), retry_attempts INT, retry_interval INT, os_run_priority INT,"
    " output_file_name NVARCHAR(200), proxy_id INT)",
    "CREATE TABLE dbo.sysjobschedules (schedule_id INT, job_id UNIQUEIDENTIFIER, next_run_date INT, next_run_time INT)",
    "CREATE TABLE dbo.sysschedules (schedule_id INT, name NVARCHAR(128), enabled INT, freq_type INT, freq_interval INT,"
    " freq_subday_type INT, freq_subday_interval INT, freq_relative_interval INT, freq_recurrence_factor INT,"
    " active_start_date INT, active_end_date INT, active_start_time INT, active_end_time INT)",
    "CREATE TABLE dbo.sysoperators (id INT, name NVARCHAR(128), enabled TINYINT, email_address NVARCHAR(100),"
    " pager_address NVARCHAR(100))",
    "CREATE TABLE dbo.syscategories (category_id INT, name NVARCHAR(128))",
    "CREATE TABLE dbo.sysproxies (proxy_id INT, name NVARCHAR(128))",
    "CREATE TABLE dbo.sysjobservers (job_id UNIQUEIDENTIFIER, server_id INT)",
    "CREATE TABLE dbo.systargetservers (server_id INT, server_name NVARCHAR(128))",
    "CREATE TABLE dbo.sysalerts (id INT, name NVARCHAR(128), enabled TINYINT, job_id UNIQUEIDENTIFIER)",
    "INSERT INTO dbo.sysjobservers VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 0)",
    "INSERT INTO dbo.sysjobservers VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 2)",
    "INSERT INTO dbo.systargetservers VALUES (2, N'EAST')",
    "INSERT INTO dbo.sysalerts VALUES (1, N'Log full', 1, '6f9619ff-8b86-d011-b42d-00c04fc964ff')",
    "INSERT INTO dbo.sysalerts VALUES (2, N'Off', 0, '6f9619ff-8b86-d011-b42d-00c04fc964ff')",
    "INSERT INTO dbo.sysalerts VALUES (3, N'Mail', 1, '00000000-0000-0000-0000-000000000000')",
    "INSERT INTO dbo.sysoperators VALUES (1, N'DBA team', 1, N'dba@example.org', NULL)",
    "INSERT INTO dbo.syscategories VALUES (101, N'Data Loads')",
    "INSERT INTO dbo.sysproxies VALUES (5, N'ETL')",
    "INSERT INTO dbo.sysjobs VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', N'Nightly', 1, N'Loads.', 1, 101, 0x7361,"
    " 0, 2, 0, 0, 1, 0, 0, 0)",
    "INSERT INTO dbo.sysjobsteps VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 1, N'Load', N'TSQL',"
    " N'EXEC dbo.load;\r\nSELECT 1', 0, 0, 3, 0, 2, 0, NULL, N'dw', NULL, 1, 5, 0, NULL, NULL)",
    "INSERT INTO dbo.sysjobsteps VALUES ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 2, N'Copy', N'CmdExec', N'cp a b', 0,"
    " 0, 1, 0, 2, 0, NULL, NULL, NULL, 0, 0, 0, NULL, 5)",
    "INSERT INTO dbo.sysschedules VALUES (7, N'Every night', 1, 4, 1, 1, 0, 0, 0, 20260101, 99991231, 13000, 235959)",
]


@pytest.fixture(params=DRIVERS)
def msdb(request: pytest.FixtureRequest, tds: TestServer) -> Iterator[sa.URL]:
    """A server with one Agent job, which is due at 01:30 every day."""
    with tds.database("msdb") as name:
        url = harness.url(tds.port, request.param, name)
        due = datetime.now(UTC).replace(hour=1, minute=30, second=0)
        due += timedelta(days=due < datetime.now(UTC))
        engine = sa.create_engine(url)
        with engine.begin() as conn:
            for statement in TABLES:
                conn.exec_driver_sql(statement)
            conn.exec_driver_sql(
                "INSERT INTO dbo.sysjobschedules VALUES (7, '6f9619ff-8b86-d011-b42d-00c04fc964ff', "
                f"{due:%Y%m%d}, 13000)"
            )
        engine.dispose()
        yield url


def test_msdb_is_read_and_compared(sqlite_factory: Factory, msdb: sa.URL) -> None:
    sqlite_factory.environment["AGENT"] = msdb.render_as_string(hide_password=False)
    words = ("import", "agent", "--url", "env:AGENT", "--timezone", "UTC")
    printed = sqlite_factory.run(*words, "--connection", "env:DW_URL")
    remarks = printed.stderr.splitlines()
    owner = "warning: msdb: job 'Nightly': Agent runs its T-SQL as its owner "
    assert len([one for one in remarks if one.startswith(owner)]) == 1
    assert [one for one in remarks if not one.startswith(owner)] == [
        "warning: msdb: job 'Nightly': the alert 'Log full' starts it, but jobfac has no alerts; let what finds "
        "the condition start the job",
        "warning: msdb: job 'Nightly', step 2 'Copy': it runs as the proxy 'ETL'; set user, or choose workers by pool "
        "or labels",
        "warning: msdb: job 'Nightly': it is meant for the server 'EAST'; choose workers by pool or labels",
        "warning: T-SQL steps connect with the URL in env:DW_URL; set it where workers run, or use --connection",
    ]
    assert "      text: |-\n        EXEC dbo.load;\n        SELECT 1\n" in printed.stdout
    (sqlite_factory.folder / "jobs.yaml").write_text(printed.stdout, encoding="utf-8")
    assert sqlite_factory.run("apply", "jobs.yaml").stdout.endswith("3 added, 0 changed, 0 removed, 0 unchanged\n")
    nightly = sqlite_factory.json("jobs", "show", "Nightly")
    assert (nightly["enabled"], nightly["category"]) == (False, "Data Loads")
    assert nightly["definition"]["notify"][0]["to"] == {"email": ["dba@example.org"]}
    compared = sqlite_factory.run(*words, "--compare").stdout.splitlines()
    assert compared[0].split() == ["JOB", "SCHEDULE", "AGENT", "JOBFAC", "SAME"]
    assert compared[1].split()[-1] == "yes"
    assert sqlite_factory.run(*words).stdout.replace("SQL_AGENT_URL", "DW_URL") == printed.stdout


def test_the_whole_corpus_in_one_import_can_be_applied(sqlite_factory: Factory) -> None:
    scripts = sorted(str(path) for path in CORPUS.glob("*/script.sql"))
    printed = sqlite_factory.run("import", "agent", *scripts, "--timezone", "Europe/Berlin")
    assert printed.stdout == sqlite_factory.run("import", "agent", *scripts, "--timezone", "Europe/Berlin").stdout
    (sqlite_factory.folder / "jobs.yaml").write_text(printed.stdout, encoding="utf-8")
    applied = sqlite_factory.run("apply", "jobs.yaml").stdout
    again = sqlite_factory.run("apply", "jobs.yaml").stdout
    assert again.splitlines()[-1].startswith("0 added, 0 changed")
    assert int(applied.splitlines()[-1].split()[0]) > 100


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "Give either files or --url; --compare needs --url, since scripts hold no run times.\n"),
        (["x.sql", "--compare"], 2, "Give either files or --url"),
        (["nowhere.sql"], 3, "nowhere.sql cannot be read: No such file or directory.\n"),
        (["/dev/null"], 2, "It contains no job of SQL Server Agent that can be imported.\n"),
        (["x.sql", "--connection", "DW_URL"], 2, "--connection must be env:NAME, file:/path or keyring:service"),
        (["x.sql", "--timezone", "Mars"], 2, "--timezone names the unknown time zone 'Mars'"),
        (["--url", "oracle://x"], 2, "--url must name a SQL Server"),
        (["--url", "mssql+pyodbc://x@h:no/msdb"], 5, "--url cannot be used"),
        (["--url", "env:NOT_SET_HERE"], 1, "the secret env:NOT_SET_HERE is not in this role's environment"),
    ],
)
def test_what_cannot_be_imported_ends_in_a_sentence(
    sqlite_factory: Factory, words: list[str], code: int, sentence: str
) -> None:
    failed = sqlite_factory.run("import", "agent", *words, code=code)
    assert failed.stderr.startswith(sentence)
    assert failed.stderr.count("\n") == 1


def test_the_crontab_of_a_user_and_a_folder_of_tables(
    sqlite_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "crontab"
    lines = "MAILTO=\\nA = 'b c'\\n#0 1 * * * off\\n30 2 * * * echo %s\\n"
    program.write_text(f'''#!/bin/sh
[ "$2" = root ] || {{ echo "must be privileged to use -u" >&2; exit 1; }}
printf "{lines}" "it # is"
''')
    program.chmod(0o755)
    monkeypatch.setattr("crontab.CRON_COMMAND", f"{program} -u root")
    printed = sqlite_factory.run("import", "crontab", "--user", "backup", "--timezone", "UTC").stdout
    assert "backup:\n" in printed
    assert "user: backup" in printed
    assert "command: 'echo it # is'" in printed
    assert "environment: {A: b c}" in printed
    monkeypatch.setattr("crontab.CRON_COMMAND", f"{program} -u nobody")
    refused = sqlite_factory.run("import", "crontab", "--user", "backup", code=3)
    assert refused.stderr.startswith("the crontab of 'backup' cannot be read: ")
    (folder := tmp_path / "cron.d").mkdir()
    (folder / "b").write_text("@daily root second\n")
    (folder / "a").write_text("@daily root first\n")
    (folder / "a.dpkg-old").write_text("@daily root never\n")
    (folder / "cronie.sh").write_text("@daily root third\n")
    found = sqlite_factory.run("import", "crontab", str(folder), "--system", "--timezone", "UTC")
    commands = [line for line in found.stdout.splitlines() if "command" in line]
    assert commands == ["    command: first", "    command: second"]
    assert found.stderr.splitlines()[0] == (
        f"warning: {folder}/cronie.sh was left out: cronie reads it, Debian's cron does not; name the file to import it"
    )
    own = tmp_path / "own"
    own.write_text("@daily own\n")
    said = sqlite_factory.run("import", "crontab", str(own), "--timezone", "UTC").stderr
    assert said == (
        f"warning: {own} names no user: its jobs run as the worker's, even if that is root, and in its directory, not "
        "in a home; add 'user' and 'directory'\n"
        "warning: cron goes on with these lines; comment them out there when you apply the jobs, or both run them\n"
    )
    monkeypatch.setattr(import_module("jobfac.cli.commands.importing.crontab"), "SPOOLS", (str(tmp_path),))
    spooled = sqlite_factory.run("import", "crontab", str(own), "--timezone", "UTC")
    assert "user: own" in spooled.stdout
    assert spooled.stderr.startswith(f"warning: {own}: cron starts the commands of 'own' in its home, which ")
    spool = tmp_path / "crontabs"
    assert sqlite_factory.run("import", "crontab", str(tmp_path / "cron.d"), "--no-system").stdout.count("user:") == 3
    spool.mkdir()
    assert sqlite_factory.run("import", "crontab", str(spool)).stderr.startswith(f"warning: {spool} holds no table")
    (spool / "john.doe").write_text("@daily own\n")
    assert "user: john.doe" in sqlite_factory.run("import", "crontab", str(spool), "--timezone", "UTC").stdout
    assert sqlite_factory.run("import", "crontab", code=2).stderr == "Give either files or --user.\n"
    assert sqlite_factory.run("export", "--user", "own", code=2).stderr == "--user is only for `export crontab`.\n"


def test_variables_that_cron_gives_to_all_commands_cause_a_warning(
    sqlite_factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "environment"
    shared.write_text('PATH="/bin"\n# A=1\nhttp_proxy="http://proxy:3128"\n export JAVA_HOME=/jvm\nEMPTY=\n')
    monkeypatch.setattr(import_module("jobfac.cli.commands.importing.crontab"), "ENVIRONMENT", shared)
    said = sqlite_factory.run("import", "crontab", "-", "--system", "--timezone", "UTC", stdin="@daily root first\n")
    assert said.stderr.splitlines()[-1] == (
        f"warning: cron gives its commands the variables of {shared}, too: http_proxy, JAVA_HOME; add those that the "
        "jobs need to their 'environment'"
    )


def test_tables_of_users_below_etc_name_no_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alpine's /etc/crontabs: busybox reads each file as that of the user whose name it has."""
    importing = import_module("jobfac.cli.commands.importing.crontab")
    monkeypatch.setattr(importing, "SPOOLS", ("/etc/crontabs",))
    monkeypatch.setattr(importing, "_inside", lambda file: [file])
    monkeypatch.setattr(importing, "_text", lambda file: "*/15 * * * * run-parts /etc/periodic/15min\n")
    tables = [Path("/etc/crontabs/root"), Path("/etc/cron.d/x"), tmp_path / "own"]
    found = list(importing._tables(tables, None, None))
    assert [(one.system, one.user) for one in found] == [(False, "root"), (True, None), (False, None)]


def test_a_machine_whose_zone_has_no_name_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local, name = tmp_path / "localtime", tmp_path / "timezone"
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zones, "LOCAL", str(local))
    monkeypatch.setattr(zones, "NAME", name)
    assert zones.zone_of(None) == "UTC"  # as the C library has it
    local.write_bytes(b"TZif2")
    with pytest.raises(Failure, match="does not say the name of this machine's time zone; give it with --timezone"):
        zones.zone_of(None)
    name.write_text("Europe/Berlin\n")
    assert zones.zone_of(None) == "Europe/Berlin"


def test_a_crontab_comes_back_out(sqlite_factory: Factory) -> None:
    table = "CRON_TZ=Europe/Berlin\n30 6 * * MON-FRI ./report.sh # report\n\n"
    job = {"command": "./report.sh", "schedules": [{"cron": "30 6 * * MON-FRI", "timezone": "Europe/Berlin"}]}
    sqlite_factory.apply({"report": job, "ping": {"command": "ping", "schedules": [{"every": "90m"}]}})
    exported = sqlite_factory.run("export", "crontab")
    assert exported.stdout.split() == table.split()
    assert exported.stderr.startswith("warning: schedule '1' of job 'ping' is left out: cron has no intervals")
    assert "warning: Debian's cron ignores CRON_TZ=Europe/Berlin and runs the lines below it in the machine's zone" in (
        " ".join(exported.stderr.split())
    )
    sqlite_factory.run("schedule", "pause", "report", "1")
    assert "\n# 30 6 * * MON-FRI" in sqlite_factory.run("export", "crontab").stdout
    assert sqlite_factory.run("export", "ping").stderr == ""
    assert sqlite_factory.run("export").stderr == (
        "warning: schedule '1' of report is paused, which no definition says; elsewhere it fires\n"
    )
    assert sqlite_factory.run("export", "--as", "yaml", "crontab", code=3).stderr.startswith(
        "There is no job 'crontab'"
    )
