"""The meaning of definitions: values, defaults, forms, and the types of YAML 1.2."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest

from jobfac.definitions import (
    DefinitionError,
    Job,
    Secret,
    Sequence,
    canonical,
    dump,
    from_canonical,
    from_data,
    load,
    loads,
    stored_defaults,
)
from jobfac.definitions.execution.output import Destination
from jobfac.definitions.patterns.moments import Blackout, DateSpan, Moment, MonthDay, TimeSpan
from jobfac.definitions.schedule import Schedule, Times
from jobfac.definitions.steps import Go

SAMPLES = Path(__file__).parent / "samples"


def job(body: str) -> Job:
    definition = loads(f"jobs:\n  j: {body}\n").jobs["j"]
    assert isinstance(definition, Job)
    return definition


def schedule(body: str) -> Schedule:
    return job(f"{{command: x, schedules: [{body}]}}").schedules[0]


def test_every_key_is_read_and_written_back() -> None:
    definitions = load(SAMPLES / "every_key.yaml")
    assert loads(dump(definitions)) == definitions
    assert not definitions.warnings


def test_the_values_of_a_program_are_read() -> None:
    orders = load(SAMPLES / "every_key.yaml").jobs["orders-export"]
    assert isinstance(orders, Job)
    assert orders.command == ("python3", "export.py", "--full")
    assert orders.environment == {"MODE": "nightly", "TOKEN": Secret(secret="env:EXPORT_TOKEN")}
    assert (orders.timeout, orders.warn_after, orders.grace) == (1800, 1200, 10)
    assert (orders.retry.attempts, orders.retry.delay, orders.retry.maximum_delay) == (3, 10, 600)
    assert orders.output.stdout == Destination(kind="database")
    assert orders.output.stderr == Destination(kind="append", path="logs/export.err")
    assert orders.output.limit == 1_048_576
    assert orders.retention is not None
    assert (orders.retention.age, orders.retention.count) == (30 * 86400, None)
    assert orders.schedules[1].missed.policy == "once"
    assert orders.schedules[1].starts == date(2027, 1, 1)
    assert orders.notify[0].to.email == ("ops@example.org",)


def test_the_values_of_a_sequence_are_read() -> None:
    month_end = load(SAMPLES / "every_key.yaml").jobs["month-end"]
    assert isinstance(month_end, Sequence)
    extract = month_end.steps[0]
    assert extract.jobs == ("orders-export", "customers-export")
    assert extract.start_if is not None
    assert extract.start_if.times == Times(between=(TimeSpan(time(22), time(4)),))
    assert extract.on_failure == Go(kind="step", step="alert")


def test_defaults_are_as_documented() -> None:
    plain = job("{command: [x]}")
    assert canonical(plain) == {"command": ["x"]}
    assert (plain.enabled, plain.on_demand, plain.replace_arguments, plain.restartable) == (True, True, True, True)
    assert (plain.detach, plain.shell, plain.aware) == (False, False, False)
    assert (plain.pool, plain.priority, plain.already_running) == ("default", 0, "start")
    assert (plain.timeout, plain.grace, plain.retry.attempts) == (None, 10, 1)
    assert (plain.success_codes, plain.warning_codes, plain.encoding) == ((0,), (), "utf-8")


def test_booleans_of_yaml_1_1_are_text() -> None:
    words = job("{command: [x, on, no, yes, 06:30, 010, 0x1F, 1_000, 2027-01-01, 12, -0, -1]}").command
    assert words == ("x", "on", "no", "yes", "06:30", "010", "0x1F", "1_000", "2027-01-01", "12", "-0", "-1")


def test_half_of_a_character_is_an_error() -> None:
    assert job(r'{"command": ["x", "\ud83d\ude00", "\ufffd"]}').command == ("x", "\U0001f600", "\ufffd")
    with pytest.raises(DefinitionError, match="half of a character"):
        job(r'{"command": ["x", "\ud83d"]}')


def test_a_directive_for_yaml_1_1_changes_no_value() -> None:
    definitions = loads("%YAML 1.1\n---\njobs: {j: {command: [x, no, 06:30, 010]}}")
    assert definitions.jobs["j"] == job("{command: [x, 'no', '06:30', '010']}")


def test_anchors_and_merges_are_resolved() -> None:
    definitions = loads("""
        jobs:
          a: &base {command: x, timeout: 1m, environment: {A: '1'}}
          b: {<<: *base, timeout: 2m}
        """)
    b = definitions.jobs["b"]
    assert isinstance(b, Job)
    assert (b.timeout, b.environment) == (120, {"A": "1"})


def test_json_is_read_with_its_own_escapes() -> None:
    text = json.dumps({"jobs": {"j": {"command": ["x", "\U0001f600", "a\tb/"]}}}, indent="\t")
    assert loads(text).jobs["j"] == Job.model_validate({"command": ["x", "\U0001f600", "a\tb/"]})


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_bytes(b"\xef\xbb\xbfjobs: {j: {command: x}}")
    assert list(load(file).jobs) == ["j"]


def test_a_command_of_text_is_split_and_runs_no_shell() -> None:
    split = job("{command: \"grep -e 'a b' $HOME\"}")
    assert split.command == ("grep", "-e", "a b", "$HOME")
    assert canonical(split) == {"command": ["grep", "-e", "a b", "$HOME"]}


def test_a_shell_command_stays_one_text() -> None:
    script = job('{shell: true, command: "cd /tmp\\nls | wc -l\\n"}')
    assert script.command == ("cd /tmp\nls | wc -l\n",)
    assert canonical(script) == {"shell": True, "command": "cd /tmp\nls | wc -l\n"}
    assert "command: |\n" in dump(loads(json.dumps({"jobs": {"j": canonical(script)}})))


@pytest.mark.parametrize(
    ("written", "seconds", "short"),
    [
        ("90m", 5400, "1h30m"),
        ("1h 30m", 5400, "1h30m"),
        ("0.5s", 0.5, "500ms"),
        ("2w", 1_209_600, "14d"),
        ("45", 45, "45s"),
        ("1.0005", 1.0005, 1.0005),
    ],
)
def test_durations_are_read_and_written(written: str, seconds: float, short: str | float) -> None:
    timed = job(f"{{command: x, timeout: {written}}}")
    assert timed.timeout == seconds
    assert canonical(timed)["timeout"] == short


@pytest.mark.parametrize(
    ("written", "size", "short"),
    [("10 MB", 10_000_000, "10MB"), ("2MiB", 2_097_152, "2MiB"), ("512", 512, 512), ("3 kb", 3000, "3kB")],
)
def test_sizes_are_read_and_written(written: str, size: int, short: str | int) -> None:
    limited = job(f"{{command: x, output: {{limit: {written}}}}}")
    assert limited.output.limit == size
    assert canonical(limited)["output"]["limit"] == short


def test_dates_and_times_of_a_schedule_are_read() -> None:
    rule = schedule(
        "{dates: {days_of_week: [mon, Sunday, 3], days_of_month: [first, last], on: 2/29, between: 12/10-01/05},"
        " times: {minutes: [0, 30], hours: 8, between: ['08:00-24:00']}}"
    )
    assert rule.dates is not None
    assert rule.dates.days_of_week == (1, 7, 3)
    assert rule.dates.days_of_month == (1, "last")
    assert rule.dates.on == (MonthDay(2, 29),)
    assert rule.dates.between == (DateSpan(MonthDay(12, 10), MonthDay(1, 5)),)
    assert rule.times == Times(minutes=(0, 30), hours=(8,), between=(TimeSpan(time(8), time(0)),))


@pytest.mark.parametrize(
    ("written", "kind", "window"),
    [
        ("22:00 - 04:00", "daily", Blackout(Moment(None, time(22)), Moment(None, time(4)))),
        ("SAT 22:00 - SUN 06:00", "weekly", Blackout(Moment(6, time(22)), Moment(7, time(6)))),
        (
            "12/31 18:00 - 01/01 06:00",
            "yearly",
            Blackout(Moment(MonthDay(12, 31), time(18)), Moment(MonthDay(1, 1), time(6))),
        ),
        (
            "2027-12-31 18:00 - 2028-01-01 06:00",
            "once",
            Blackout(Moment(date(2027, 12, 31), time(18)), Moment(date(2028, 1, 1), time(6))),
        ),
    ],
)
def test_blackout_windows_are_read(written: str, kind: str, window: Blackout) -> None:
    rule = schedule(f"{{cron: '@daily', blackout: '{written}'}}")
    assert rule.blackout == (window,)
    assert window.kind == kind
    assert rule.model_dump(mode="json")["blackout"] == [written]


def test_starts_and_ends_are_local_times_or_whole_days() -> None:
    rule = schedule("{cron: '@daily', timezone: Europe/Berlin, starts: 2027-01-01, ends: 2027-06-30}")
    assert rule.first_instant == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert rule.last_instant == datetime(2027, 6, 30, 21, 59, 59, 999_999, tzinfo=UTC)
    exact = schedule("{cron: '@daily', timezone: Europe/Berlin, ends: '2027-06-30T12:00-05:00'}")
    assert exact.last_instant == datetime(2027, 6, 30, 17, tzinfo=UTC)


def test_names_of_cron_are_kept_and_understood() -> None:
    rule = schedule("{cron: '@Hourly'}")
    assert (rule.cron, rule.cron_fields) == ("@hourly", "0 * * * *")


def test_schedules_are_named_explicitly_or_by_position() -> None:
    named = job("{command: x, schedules: [{cron: '@daily'}, {name: late, cron: '0 22 * * *'}]}")
    assert named.schedule_names() == ["1", "late"]


def test_equal_schedules_have_equal_hashes() -> None:
    one = Schedule.model_validate({"cron": "0 6 * * *", "arguments": {"a": ["b"]}})
    assert hash(one) == hash(one.model_copy(deep=True))


def test_enabled_is_written_to_yaml_but_not_stored() -> None:
    off = loads("jobs: {j: {command: x, enabled: false}}")
    assert canonical(off.jobs["j"]) == {"command": ["x"]}
    assert from_canonical("j", {"command": ["x"]}, enabled=False) == off.jobs["j"]
    assert loads(dump(off)) == off


def test_characters_that_change_the_direction_of_text_are_escaped_in_yaml() -> None:
    body = {"command": ["x"], "description": "a \u202e b\nc \u2066 \x9b", "environment": {"k\u202e": "v"}}
    written = dump(from_data({"jobs": {"a": body}}))
    assert written.replace("\n", "").isprintable()
    assert dump(loads(written)) == written
    assert loads(written).jobs["a"].description == body["description"]


def test_defaults_of_a_category_are_read() -> None:
    definitions = loads("jobs: {}\ndefaults: {finance: {notify: [{on: failed, to: {email: a@example.org}}]}}")
    assert definitions.defaults["finance"].notify[0].on == ("failed",)
    assert loads(dump(definitions)) == definitions


def test_steps_may_name_stored_jobs() -> None:
    body = {"jobs": {"s": {"steps": [{"name": "a", "jobs": ["stored"]}]}}}
    assert list(from_data(body, known={"stored": {"command": ["x"]}}).jobs) == ["s"]


def test_a_recipient_to_whom_nothing_would_be_sent_is_refused_though_a_stored_one_can_be_read() -> None:
    body = {"notify": [{"on": "failed", "to": {"apprise": "json://elastic:9200/runs?method=PUT"}}]}
    program = {"command": ["x"], **body}
    for document in ({"jobs": {"a": program}}, {"jobs": {}, "defaults": {"finance": body}}):
        with pytest.raises(DefinitionError, match=r"notify\[0\].to.apprise chooses the method or the framing"):
            from_data(document)
    assert from_canonical("a", program).notify
    assert stored_defaults(json.dumps(body)).notify


def test_a_step_may_be_visited_again() -> None:
    loop = "[{name: a, jobs: p, on_success: {step: a}, on_failure: end}]"
    assert not loads(f"jobs: {{p: {{command: x}}, s: {{steps: {loop}}}}}").warnings


def test_the_import_loads_no_rarely_needed_modules() -> None:
    program = "import sys, jobfac.definitions; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"ruamel", "holidays", "cronsim", "sqlalchemy"} & set(loaded)
