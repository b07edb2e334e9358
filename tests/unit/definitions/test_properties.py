"""Any definition survives being stored and being written as YAML."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobfac.control_characters import as_name
from jobfac.definitions import canonical, dump, from_canonical, from_data, loads
from jobfac.definitions.document import read_document, write_document
from jobfac.definitions.values import read_duration, read_size, write_duration, write_size
from tests.unit.examples import examples

# Any text, often one that has a meaning in YAML. Surrogates are no text, and NUL is not allowed.
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.text("ab1 ?-:#,[]{}&*!|>'\"%@`\n\\~=<.\t", max_size=8),
)
words = texts.map(lambda text: text + "x")
ids = st.from_regex(r"[A-Za-z0-9._-]{1,8}", fullmatch=True)
durations = st.one_of(st.integers(1, 10**7), st.floats(0.001, 1e6), st.sampled_from(["30m", "1h30m", "2d", "750ms"]))
clocks = st.times().map(lambda time: time.strftime("%H:%M"))
spans = st.lists(clocks, min_size=2, max_size=2, unique=True).map("-".join)
month_days = st.dates().map(lambda day: f"{day:%m/%d}")


def mapping(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


def some(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(entries, min_size=1, max_size=3)


dates = mapping(
    {},
    {
        "days_of_week": some(st.one_of(st.integers(1, 7), st.sampled_from(["mon", "Sunday", "FRI"]))),
        "days_of_month": some(st.one_of(st.integers(1, 31), st.sampled_from(["first", "last"]))),
        "on": some(month_days),
        "between": some(st.tuples(month_days, month_days).map("-".join)),
        "weekdays": some(st.sampled_from(["first", "last", "weekday", "weekend"])),
        "nth": some(st.sampled_from(["first mon", "Second TUESDAY", "last weekday", "third weekend", "fourth day"])),
    },
) | st.fixed_dictionaries(
    {
        "every": st.builds("{} {}".format, st.integers(1, 99), st.sampled_from(["day", "days", "weeks", "Months"])),
        "since": st.dates().filter(lambda day: 1970 <= day.year <= 2999).map(str),
        "days_of_week": st.just(["mon"]),
    }
)
times = st.one_of(
    mapping({"at": some(clocks)}, {"between": some(spans)}),
    mapping({"hours": some(st.integers(0, 23))}, {"minutes": some(st.integers(0, 59))}),
    mapping({"every": st.integers(1, 86400)}, {}),
    mapping({"every": st.integers(1, 86400), "between": some(spans), "count_from": st.just("span")}, {}),
)
instants = st.datetimes(timezones=st.timezones()).filter(lambda moment: 1970 <= moment.year <= 2999)
common = {
    "timezone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    "missed": st.one_of(
        st.sampled_from(["skip", "once", "all"]),
        mapping({"policy": st.sampled_from(["skip", "once", "all"])}, {"window": durations, "maximum": st.just(3)}),
    ),
    "gap": st.sampled_from(["shift", "skip"]),
    "overlap": st.sampled_from(["first", "second", "both"]),
    "calendar": mapping({"dates": some(month_days)}, {"on_holiday": st.sampled_from(["skip", "previous", "next"])}),
    "blackout": some(st.sampled_from(["22:00 - 04:00", "SAT 22:00 - SUN 06:00", "12/31 18:00 - 01/01 06:00"])),
    "starts": st.sampled_from(["2027-01-01", "2027-01-01T06:30:00", "2027-01-01T06:30:00+01:00"]),
    "jitter": durations,
    "arguments": st.lists(texts, max_size=3),
    "payload": texts,
    "enabled": st.booleans(),
}
schedules = st.one_of(
    mapping({"cron": st.sampled_from(["*/15 8-18 * * MON-FRI", "@daily", "0 0 L * *", "0 6 * * 1#2"])}, common),
    mapping({"every": st.integers(1, 10**6)}, common),
    mapping({"at": instants.map(lambda moment: moment.isoformat())}, common),
    mapping({"times": times}, common | {"dates": dates}),
)
secrets = st.sampled_from(["env:TOKEN", "file:/etc/token", "keyring:jobfac/batch"]).map(lambda ref: {"secret": ref})
streams = st.one_of(
    st.sampled_from(["none", "database"]),
    st.fixed_dictionaries({"append": words}),
    st.just({"timestamped": "logs/run-*.log"}),
)
recipients = st.one_of(
    st.just({"email": "ops@example.org"}),
    mapping(
        {"webhook": st.just("https://example.org/hook")},
        {"body": st.sampled_from(["none", "status"]), "headers": st.dictionaries(ids, st.one_of(texts, secrets))},
    ),
    st.fixed_dictionaries({"apprise": secrets}),
)
scripts = mapping(
    {"connection": secrets, "text": words},
    {
        "database": words,
        "on_error": st.sampled_from(["stop", "continue"]),
        "timeout": durations,
        "isolation": st.sampled_from(["snapshot", "read committed"]),
        "result": st.sampled_from(["rows", "json", "none"]),
    },
)
OPTIONAL: dict[str, Any] = {
    "name": words.map(as_name),
    "description": texts,
    "environment": st.dictionaries(ids, st.one_of(texts, secrets), max_size=3),
    "labels": st.dictionaries(ids, texts, max_size=3),
    "priority": st.integers(-1000, 1000),
    "grace": durations,
    "retry": mapping({}, {"attempts": st.integers(1, 5), "jitter": st.floats(0, 1)}),
    "output": mapping({}, {"stdout": streams, "limit": st.integers(0, 2**40)}),
    "retention": st.one_of(durations, mapping({"count": st.integers(1, 1000)}, {"age": durations})),
    "schedules": st.lists(schedules, max_size=3),
    "notify": st.lists(st.fixed_dictionaries({"on": st.just("failed"), "to": recipients}), max_size=2),
    "enabled": st.booleans(),
}
jobs = st.one_of(
    mapping({"command": st.lists(words, min_size=1, max_size=3)}, OPTIONAL), mapping({"sql": scripts}, OPTIONAL)
)


@settings(deadline=None, max_examples=examples(200))
@given(jobs)
def test_a_job_survives_being_stored_and_being_written(body: dict[str, Any]) -> None:
    definitions = from_data({"jobs": {"j": body}})
    job = definitions.jobs["j"]
    stored = json.loads(json.dumps(canonical(job)))
    assert from_canonical("j", stored, job.enabled) == job
    assert canonical(from_canonical("j", stored)) == stored
    assert loads(dump(definitions)) == definitions


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**17), 10**17),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@settings(deadline=None, max_examples=examples(200))
@given(values)
def test_any_json_value_is_read_back_from_yaml(value: Any) -> None:
    assert read_document(write_document(value)).value == value


@settings(deadline=None)
@given(values)
def test_json_is_read_as_yaml(value: Any) -> None:
    assert read_document(json.dumps(value)).value == value


@given(st.floats(0, 3e9))
def test_a_written_duration_is_read_back(seconds: float) -> None:
    assert read_duration(write_duration(seconds)) == seconds


@given(st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000))
def test_whole_milliseconds_have_a_short_form(seconds: float) -> None:
    short = write_duration(seconds)
    assert isinstance(short, str)
    assert read_duration(short) == seconds


@given(st.one_of(st.integers(0, 2**50), st.integers(0, 2000).map(lambda size: size * 1024)))
def test_a_written_size_is_read_back(size: int) -> None:
    assert read_size(write_size(size)) == size
