"""Settings: where they come from, in which order, and what is said about wrong ones."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobfac.settings import Settings, SettingsError, load, sources, sqlite_path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, where no jobfac.toml is but the test's."""
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "jobfac.toml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def test_without_anything_the_defaults_hold() -> None:
    assert load({}) == Settings()
    assert {source.origin for source in sources({}).values()} == {"default"}
    assert load({}).database_url == "sqlite:///jobfac.db"


def test_the_environment_wins_over_the_file_over_the_default() -> None:
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


def test_what_the_command_line_says_wins_over_everything() -> None:
    assert load({"JOBFAC_API_PORT": "9000"}, api_port=9001).api_port == 9001
    assert load({"JOBFAC_API_PORT": "9000"}, api_port=None).api_port == 9000


def test_the_file_may_be_elsewhere() -> None:
    write("api_port = 1234", "other.toml")
    assert load({"JOBFAC_CONFIG": "other.toml"}).api_port == 1234


WORDS = {"wait": "polling", "smtp_tls": "tls"}


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
        ({"JOBFAC_LEASE": "soon"}, "", "JOBFAC_LEASE: lease must be a number, not 'soon'."),
        ({"JOBFAC_API_PORT": "1.5"}, "", "JOBFAC_API_PORT: api_port must be a whole number, not '1.5'."),
        ({}, "lease = [1]", "jobfac.toml: lease must be a number, not [1]."),
        ({}, "leese = 1", "jobfac.toml: unknown setting 'leese'; `jobfac config` lists the settings."),
        ({}, "lease = ", "jobfac.toml cannot be read: "),
        ({"JOBFAC_CONFIG": "nowhere.toml"}, "", "JOBFAC_CONFIG names nowhere.toml, which does not exist."),
        (
            {"JOBFAC_LEASE": "5"},
            "",
            "lease (5 s) must be longer than heartbeat (3 s) plus lease_margin (3 s); a lease of five heartbeats",
        ),
        ({"JOBFAC_HEARTBEAT": "0"}, "", "lease (15 s) must be longer than heartbeat (0 s)"),
        ({"JOBFAC_LEASE_MARGIN": "-1"}, "", "lease_margin must be greater than 0, not -1."),
        ({"JOBFAC_SWEEP_INTERVAL": "0"}, "", "sweep_interval must be greater than 0, not 0."),
        ({"JOBFAC_WAIT": "dreaming"}, "", "wait must be `server` or `polling`, not 'dreaming'."),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(
    environment: Mapping[str, str], file: str, sentence: str
) -> None:
    if file:
        write(file)
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/jobs.db", "/var/jobs.db"),
        ("sqlite+pysqlite:////var/jobs.db?timeout=3", "/var/jobs.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("mssql+pyodbc://server/jobs", None),
    ],
)
def test_the_file_of_a_sqlite_url(url: str, path: str | None) -> None:
    assert sqlite_path(url) == (None if path is None else Path(path))


def test_a_relative_file_is_in_the_current_folder(tmp_path: Path) -> None:
    assert sqlite_path("sqlite:///jobs.db") == tmp_path / "jobs.db"


def test_every_database_has_its_own_spool_without_its_password() -> None:
    one = Settings(database_url="mssql+pyodbc://me:secret@server/one").spool_folder()
    other = Settings(database_url="mssql+pyodbc://me:secret@server/other").spool_folder()
    assert one != other
    assert "secret" not in str(one)
    assert Settings(database_url="sqlite:////var/jobs.db").spool_folder() == Path("/var/jobs.db-spool")
    assert Settings(spool="here").spool_folder() == Path.cwd() / "here"
