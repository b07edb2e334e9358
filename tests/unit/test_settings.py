"""Settings: their sources, their precedence, and the messages about invalid ones."""

import dataclasses
import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobfac.cli import common
from jobfac.definitions.parameters.checks import RESERVED
from jobfac.errors import NotReady
from jobfac.settings import Settings, SettingsError, load, sources, sqlite_path
from jobfac.settings.database_url import read_url
from jobfac.settings.misspelt import misspelt
from jobfac.settings.passwords import without_password

A_TIME = "must be a number greater than 0 and at most 3153600000"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, so that no other jobfac.toml is read."""
    monkeypatch.chdir(tmp_path)


def write(text: str | bytes, name: str = "jobfac.toml") -> None:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())


def test_without_sources_the_defaults_apply() -> None:
    assert load({}) == Settings()
    assert {source.origin for source in sources({}).values()} == {"default"}
    assert load({}).database_url == "sqlite:///jobfac.db"


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 12399)
    monkeypatch.setattr("os.getuid", lambda: 12399)
    with pytest.raises(SettingsError, match=r"no home folder: set HOME or XDG_STATE_HOME, or JOBFAC_SPOOL\.$"):
        Settings(database_url="mssql+pyodbc://server/jobs").spool_folder()


def test_a_file_may_begin_with_a_byte_order_mark() -> None:
    write(b"\xef\xbb\xbflease = 20.0\r\n")
    assert load({}).lease == 20.0


def test_the_environment_takes_precedence_over_the_file_over_the_default() -> None:
    write('lease = 20\nheartbeat = 2.5\nspool = "/var/spool/ä"\n')
    environment = {"JOBFAC_LEASE": "30", "JOBFAC_API_PORT": "9000", "JOBFAC_SPOOL": ""}
    found = load(environment)
    assert (found.lease, found.heartbeat, found.spool, found.api_port) == (30.0, 2.5, "/var/spool/ä", 9000)
    origins = {name: source.origin for name, source in sources(environment).items() if source.origin != "default"}
    assert origins == {
        "lease": "JOBFAC_LEASE",
        "heartbeat": "jobfac.toml",
        "spool": "jobfac.toml",
        "api_port": "JOBFAC_API_PORT",
    }


def test_the_command_line_takes_precedence() -> None:
    assert load({"JOBFAC_API_PORT": "9000"}, api_port=9001).api_port == 9001
    assert load({"JOBFAC_API_PORT": "9000"}, api_port=None).api_port == 9000


def test_a_variable_may_name_another_file() -> None:
    write("api_port = 1234", "other.toml")
    assert load({"JOBFAC_CONFIG": "other.toml"}).api_port == 1234


def test_an_empty_variable_names_no_file_and_an_invalid_name_is_explained() -> None:
    assert load({"JOBFAC_CONFIG": ""}) == Settings()
    for name in ("x" * 300, ".", "missing.toml"):
        with pytest.raises(SettingsError, match=name):
            load({"JOBFAC_CONFIG": name})


WORDS = {
    "public_url": "https://jobs.example.org",
    "wait": "polling",
    "smtp_tls": "tls",
    "log_format": "json",
    "log_level": "DEBUG",
    "metrics": "[::1]:9420",
}


@pytest.mark.parametrize("setting", dataclasses.fields(Settings), ids=lambda setting: setting.name)
def test_every_setting_has_a_help_and_a_variable(setting: "dataclasses.Field[object]") -> None:
    text = WORDS.get(setting.name) or {float: "2.5", int: "7", bool: "true"}.get(type(setting.default), "some text")
    variable = f"JOBFAC_{setting.name.upper()}"
    found = sources({"JOBFAC_LEASE": "20.5", variable: "20.5" if setting.name == "lease" else text})
    assert found[setting.name].origin == variable
    assert setting.metadata["help"]


@pytest.mark.parametrize(
    ("environment", "file", "sentence"),
    [
        ({"JOBFAC_LEASE": "soon"}, "", f"JOBFAC_LEASE {A_TIME}, not 'soon'."),
        ({"JOBFAC_LEASE": "nan"}, "", f"JOBFAC_LEASE {A_TIME}, not 'nan'."),
        (
            {"JOBFAC_PUBLIC_URL": "jobs.example.org"},
            "",
            "public_url (JOBFAC_PUBLIC_URL) must be a URL such as https://jobs.example.org, not 'jobs.example.org'.",
        ),
        (
            {"JOBFAC_PUBLIC_URL": "https:/me:s1@jobs"},
            "",
            "public_url (JOBFAC_PUBLIC_URL) must be a URL such as https://jobs.example.org, not 'https:/me:***@jobs'.",
        ),
        (
            {},
            'database_url = ["a://me:s1@h/d"]',
            'jobfac.toml: database_url must be text in quotes, not ["a:***@h/d"].',
        ),
        ({"JOBFAC_METRICS": "9420"}, "", "metrics must be HOST:PORT, such as 127.0.0.1:9420, not '9420'."),
        ({"JOBFAC_API_PORT": "1.5"}, "", "JOBFAC_API_PORT must be a whole number from 0 to 65535, not '1.5'."),
        ({}, "api_port = 8420.7", "jobfac.toml: api_port must be a whole number from 0 to 65535, not 8420.7."),
        ({}, "api_port = 65536", "jobfac.toml: api_port must be a whole number from 0 to 65535, not 65536."),
        ({}, "smtp_port = true", "jobfac.toml: smtp_port must be a whole number from 1 to 65535, not true."),
        ({}, "lease = true", f"jobfac.toml: lease {A_TIME}, not true."),
        ({}, "lease = [1]", f"jobfac.toml: lease {A_TIME}, not [1]."),
        ({}, 'lease = "20"', f"jobfac.toml: lease {A_TIME}, not '20'."),
        ({}, "lease = 2027-01-01", f'jobfac.toml: lease {A_TIME}, not "2027-01-01".'),
        ({}, "spool = 7", "jobfac.toml: spool must be text in quotes, not 7."),
        ({}, "api_key = 7", "jobfac.toml: api_key must be text in quotes."),
        ({}, "webhook_allow_local = 1", "jobfac.toml: webhook_allow_local must be true or false, not 1."),
        ({}, "retention_count = -1", "jobfac.toml: retention_count must be a whole number from 0 to 1000000000, not"),
        ({"JOBFAC_RETENTION": "1e12"}, "", "JOBFAC_RETENTION must be a number greater than 0 and at most 3153600000,"),
        ({"JOBFAC_DRAIN_LIMIT": "1e12"}, "", "JOBFAC_DRAIN_LIMIT must be a number from 0 to 3153600000, not '1e12'."),
        ({}, "leese = 1", "jobfac.toml: unknown setting 'leese'; `jobfac config` lists the settings."),
        ({}, "lease = ", "jobfac.toml cannot be read: "),
        ({}, b"\xff\xfe", "jobfac.toml is not UTF-8 text (byte 0); save it as UTF-8."),
        ({"JOBFAC_CONFIG": "nowhere.toml"}, "", "JOBFAC_CONFIG names nowhere.toml, which does not exist."),
        (
            {"JOBFAC_LEASE": "5"},
            "heartbeat = 2",
            "lease (5 s, JOBFAC_LEASE) must be longer than heartbeat (2 s, jobfac.toml) plus lease_margin (3 s",
        ),
        ({"JOBFAC_WAIT": "dreaming"}, "", "JOBFAC_WAIT must be auto, server or polling, not 'dreaming'."),
        (
            {"JOBFAC_DATABASE_URL": "sqlite:///jobfac.db\r"},
            "",
            "database_url (JOBFAC_DATABASE_URL) has a blank at an end, a control character or bytes",
        ),
        ({}, 'spool = "/var/spool "', "spool (jobfac.toml) has a blank at an end, a control character or bytes"),
        ({"JOBFAC_LOG_LEVEL": "loud"}, "", "JOBFAC_LOG_LEVEL must be debug, info, warning or error, not 'loud'."),
    ],
)
def test_an_invalid_setting_is_named_with_the_valid_values(
    environment: Mapping[str, str], file: str | bytes, sentence: str
) -> None:
    if file:
        write(file)
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert str(caught.value).startswith(sentence)


def test_all_invalid_settings_are_reported_together() -> None:
    write("api_port = 1.5\nleese = 1\n")
    with pytest.raises(SettingsError) as caught:
        load({"JOBFAC_WAIT": "dreaming", "JOBFAC_API_PORT": "8420"})
    assert str(caught.value).splitlines() == [
        "jobfac.toml: api_port must be a whole number from 0 to 65535, not 1.5.",
        "jobfac.toml: unknown setting 'leese'; `jobfac config` lists the settings.",
        "JOBFAC_WAIT must be auto, server or polling, not 'dreaming'.",
    ]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/jobs.db", "/var/jobs.db"),
        ("sqlite+pysqlite:////var/jobs.db?timeout=3", "/var/jobs.db"),
        ("sqlite:////var/my%20jobs%25.db", "/var/my jobs%.db"),
        ("sqlite:////var/50%.db", "/var/50%.db"),
        ("sqlite:///:memory:", None),
        ("sqlite:///%3Amemory%3A", None),
        ("sqlite://", None),
        ("mssql+pyodbc://server/jobs", None),
    ],
)
def test_the_file_of_a_sqlite_url_is_found(url: str, path: str | None) -> None:
    assert sqlite_path(url) == (None if path is None else Path(path))
    if path is not None:
        assert read_url(url).database == path  # the file that SQLAlchemy opens


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mssql+pyodbc://me:s:1@server/jobs?timeout=3", "mssql+pyodbc://me:***@server/jobs?timeout=3"),
        ("mssql+pyodbc://me:s@1:2@server/jobs?x=a@b", "mssql+pyodbc://me:***@server/jobs?x=a@b"),
        ("mssql+pyodbc://me:s?1@server/jobs", "mssql+pyodbc://me:***@server/jobs"),
        ("mssql+pyodbc://me:s@1?2?3@server/jobs?x=a@b", "mssql+pyodbc://me:***@server/jobs?x=a@b"),
        ("mssql+pyodbc://me:s@1?2=3@server/jobs?x=a@b", "mssql+pyodbc://me:***@server/jobs?x=a@b"),
        ("mssql+pyodbc://me:s?1=2@3@server/jobs?x=a@b", "mssql+pyodbc://me:***@server/jobs?x=a@b"),
        ("mssql+pyodbc://me@server/jobs", "mssql+pyodbc://me@server/jobs"),
        ("mssql+pyodbc://server/jobs?UID=me&PWD=s&timeout=3", "mssql+pyodbc://server/jobs?UID=me&PWD=***&timeout=3"),
        (
            "mssql+pyodbc:///?odbc_connect=SERVER%3Dhost%3BUID%3Dme%3BPwd%3Ds1%3BDATABASE%3Djobs",
            "mssql+pyodbc:///?odbc_connect=SERVER%3Dhost%3BUID%3Dme%3BPwd%3D***%3BDATABASE%3Djobs",
        ),
        (
            "mssql+pyodbc:///?odbc_connect=SERVER=host;PWD={s;1}}2};UID=me",
            "mssql+pyodbc:///?odbc_connect=SERVER=host;PWD=***;UID=me",
        ),
        (
            "mssql+pyodbc:///?odbc_connect=PWD%3D%7Bs%7D%7D%3B1%7D%3BUID%3Dme&timeout=3",
            "mssql+pyodbc:///?odbc_connect=PWD%3D***%3BUID%3Dme&timeout=3",
        ),
        ("mssql+pyodbc://me@shop:s1@server/jobs?x=1", "mssql+pyodbc://me@shop:***@server/jobs?x=1"),
        ("mssql+pyodbc://me@server:1433/jobs", "mssql+pyodbc://me@server:1433/jobs"),
        ("mssql+pyodbc//me:s1@server/jobs", "mssql+pyodbc//me:***@server/jobs"),
        ("me:s@1@server/jobs", "me:***@server/jobs"),
        (
            "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD+%3D+%7Bs1%3B2%7D%3BDATABASE%3Djobs",
            "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD+%3D+***%3BDATABASE%3Djobs",
        ),
        ("mssql+pyodbc:///?odbc_connect=PWD = s1;UID=me", "mssql+pyodbc:///?odbc_connect=PWD = ***;UID=me"),
        ("mysql://server/jobs?user=me&passwd=s1", "mysql://server/jobs?user=me&passwd=***"),
        ("https://jobs@corp:s1@api.example.org/x", "https://jobs@corp:***@api.example.org/x"),
        ("mssql+pyodbc:/me:s1@server/jobs", "mssql+pyodbc:/me:***@server/jobs"),
        ("mssql+pyodbc:/me:s/1@server/jobs?x=1", "mssql+pyodbc:/me:***@server/jobs?x=1"),
        ("mssql+pyodbc:///me:s1@server/jobs", "mssql+pyodbc:///me:***@server/jobs"),
        ("mssql+pyodbc://corp/me:s1@server/jobs", "mssql+pyodbc://corp/me:***@server/jobs"),
        ("corp/me:s1@server/jobs", "corp/me:***@server/jobs"),
        ("mssql+pyodbc:me:s1@server/jobs", "mssql+pyodbc:***@server/jobs"),
        ("mssql_pyodbc:/me:s1@server/jobs", "mssql_pyodbc:***@server/jobs"),
        ("mssql+pyodbc:\\\\me:s1@server/jobs", "mssql+pyodbc:***@server/jobs"),
        ("sqlite:/var/jobs.db", "sqlite:/var/jobs.db"),
        ("http:/api.example.org:8420/x", "http:/api.example.org:8420/x"),
        ("http://[::1]:8420", "http://[::1]:8420"),
        ("sqlite:////var/a@b/jobs.db", "sqlite:////var/a@b/jobs.db"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_relative_file_is_in_the_current_folder(tmp_path: Path) -> None:
    assert sqlite_path("sqlite:///jobs.db") == tmp_path / "jobs.db"


def test_every_database_has_its_own_spool_without_its_password() -> None:
    one = Settings(database_url="mssql+pyodbc://me:secret@server/one").spool_folder()
    other = Settings(database_url="mssql+pyodbc://me:secret@server/other").spool_folder()
    assert one != other
    assert "secret" not in str(one)
    hidden = Settings(database_url="mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret%3BDATABASE%3Done")
    assert "secret" not in str(hidden.spool_folder())
    long = (
        "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BODBC+Driver+18+for+SQL+Server%7D%3BSERVER%3Dtcp%3Aa.example.org%3B"
    )
    assert len({Settings(database_url=f"{long}DATABASE%3D{name}").spool_folder() for name in ("one", "other")}) == 2
    assert Settings(database_url="sqlite:////var/jobs.db").spool_folder() == Path("/var/jobs.db-spool")
    assert Settings(spool="here").spool_folder() == Path.cwd() / "here"


def test_variables_spelt_nearly_like_a_setting_are_found() -> None:
    environment = {
        "JOBFAC_DATABASE": "x",
        "JOBFAC_LEASES": "1",
        "JOBFAC_RUN_ID": "1",
        "JOBFAC_LEASE": "3",
        "LEASE": "1",
    }
    assert misspelt(environment) == {"JOBFAC_DATABASE": "JOBFAC_DATABASE_URL", "JOBFAC_LEASES": "JOBFAC_LEASE"}


def test_no_variable_of_a_job_program_is_spelt_nearly_like_a_setting() -> None:
    assert misspelt(dict.fromkeys([*RESERVED, "JOBFAC_PARAM_HEARTBEAT_URL"], "1")) == {}


def test_a_command_says_once_which_variable_nothing_reads(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBFAC_DATABASE", "x")
    common.warn_of_misspelt.cache_clear()
    monkeypatch.setenv("_JOBFAC_COMPLETE", "complete_bash")
    common.settings()
    common.warn_of_misspelt.cache_clear()
    monkeypatch.delenv("_JOBFAC_COMPLETE")
    common.settings()
    common.settings()
    assert capfd.readouterr().err == "Nothing reads JOBFAC_DATABASE. Did you mean JOBFAC_DATABASE_URL?\n"
    common.warn_of_misspelt.cache_clear()


def test_a_file_that_cannot_be_read_for_a_moment_is_no_mistake(tmp_path: Path) -> None:
    """Supervisors do not start a role again that ends by a mistake."""
    path = tmp_path / "jobfac.toml"
    path.write_text("lease = 20")
    load({"JOBFAC_CONFIG": str(path)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(NotReady, match="cannot be read: Too many open files"):
            load({"JOBFAC_CONFIG": str(path)})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
