"""Typed parameters: what a value may be, one sentence for a mistake, defaults, and what a run keeps."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfac.definitions import DefinitionError, Parameter
from jobfac.definitions.parameters import (
    Context,
    constants,
    needs_previous,
    read_parameters,
    secrets,
    split,
)
from jobfac.definitions.parameters.values import typed

BERLIN = timezone(timedelta(hours=1))
CONTEXT = Context(
    due=datetime(2027, 2, 1, 0, 30, tzinfo=BERLIN),
    run_id=7,
    previous=datetime(2027, 1, 28, 0, 30, tzinfo=BERLIN),
    trigger={"path": "/in/a.csv", "run": {"id": 5, "job": "extract", "state": "succeeded", "outputs": {"rows": 3}}},
)


def read(given: dict[str, Any], context: Context = CONTEXT, **declared: dict[str, Any]) -> dict[str, Any]:
    known = {name: Parameter.model_validate(body) for name, body in declared.items()}
    return read_parameters("load", known, given, context)


@pytest.mark.parametrize(
    ("kind", "value", "canonical"),
    [
        ("text", "ü ${x}", "ü ${x}"),
        ("text", 5, "5"),
        ("text", "", ""),
        ("integer", "5", 5),
        ("integer", -3, -3),
        ("number", "0.5", 0.5),
        ("number", "5", 5),
        ("number", 1e300, 1e300),
        ("boolean", "true", True),
        ("boolean", False, False),
        ("date", "2028-02-29", "2028-02-29"),
        ("datetime", "2027-01-31T22:00:00Z", "2027-01-31T22:00:00+00:00"),
        ("datetime", "2027-01-31 22:00+01:00", "2027-01-31T22:00:00+01:00"),
        ("duration", "90m", "1h30m"),
        ("duration", 1.5, "1s500ms"),
        ("duration", "90", "1m30s"),
    ],
)
def test_what_each_type_accepts_and_its_canonical_form(kind: str, value: Any, canonical: Any) -> None:
    found = read({"p": value}, p={"type": kind})
    assert found == {"p": canonical}
    assert type(found["p"]) is type(canonical)
    assert read(found, p={"type": kind}) == found


@pytest.mark.parametrize(
    ("declared", "value", "says"),
    [
        ({}, True, "must be text, not true; put it in quotes"),
        ({}, "a\0b", "must not contain a NUL character"),
        ({}, "\ud800", "must not contain half of a character (a lone surrogate)"),
        ({"most": 3}, "abcd", "must be at most 3 characters, not 4"),
        ({"pattern": "[A-Z]{3}"}, "ABCD", "must match [A-Z]{3}, not 'ABCD'"),
        ({"type": "choice", "choices": ["eu", "us"]}, "uss", "must be one of eu, us, not 'uss'; did you mean 'us'?"),
        ({"type": "integer"}, "5.0", "must be a whole number, not '5.0'"),
        ({"type": "integer"}, True, "must be a whole number, not true"),
        (
            {"type": "integer"},
            2**63,
            "must be a whole number below 2 ** 63, not 9223372036854775808",
        ),
        ({"type": "integer", "minimum": 1}, 0, "must be a whole number of at least 1, not 0"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, 10, "must be a whole number from 1 to 9, not 10"),
        ({"type": "number", "maximum": 0.5}, "0.6", "must be a number of at most 0.5, not 0.6"),
        ({"type": "number"}, float("nan"), "must be a number, not nan"),
        ({"type": "boolean"}, "yes", "must be true or false, not 'yes'"),
        ({"type": "date"}, "2027-02-29", "must be a date that exists, as YYYY-MM-DD, not '2027-02-29'"),
        (
            {"type": "datetime"},
            "2027-01-31T22:00:00",
            "must be a time with its offset, such as 2027-01-31T22:00:00+01:00, not '2027-01-31T22:00:00'",
        ),
        ({"type": "duration"}, "0.0001", "must be a duration of whole milliseconds, not 0.0001"),
        ({"many": True, "type": "integer"}, "[1,", "must be a list, such as [1, 2] in JSON, not '[1,'"),
        ({"many": True, "type": "integer"}, [1, "x"], "must be a whole number, not 'x'"),
        ({"many": True}, ["x"] * 10_001, "must have at most 10,000 entries, not 10,001"),
        ({"required": True}, None, "must be given"),
        ({"sensitive": True, "pattern": "[0-9]+"}, "geheim", "must match [0-9]+"),
    ],
)
def test_a_mistake_is_one_sentence(declared: dict[str, Any], value: Any, says: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read({"p": value}, p=declared)
    assert str(caught.value) == f"job 'load': parameters.p {says}"


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        read({"lmit": 5, "day": "x"}, limit={"type": "integer"}, day={"type": "date"}, region={"required": True})
    assert [problem.message for problem in caught.value.problems] == [
        "parameters has the unknown name 'lmit'; did you mean 'limit'?",
        "parameters.day must be a date that exists, as YYYY-MM-DD, not 'x'",
        "parameters.region must be given",
    ]
    with pytest.raises(DefinitionError, match="unknown name 'x'; it takes none"):
        read({"x": 1})
    with pytest.raises(DefinitionError, match=r"1,048,5\d\d characters; 1,048,576 is the most") as caught:
        read({"p": "x" * 2**20}, p={})
    assert caught.value.problems[0].field == "parameters"


@pytest.mark.parametrize(
    ("default", "kind", "value"),
    [
        ("${due.date}", "date", "2027-02-01"),
        ("${due.date - 1d}", "date", "2027-01-31"),
        ("${due.date+1w}", "date", "2027-02-08"),
        ("${due.at}", "datetime", "2027-02-01T00:30:00+01:00"),
        ("${due.at - 90m}", "datetime", "2027-01-31T23:00:00+01:00"),
        ("${run.id}", "integer", 7),
        ("batch-${run.id}-${due.date}", "text", "batch-7-2027-02-01"),
        ("${previous.success.date}", "date", "2027-01-28"),
        ("${trigger.path}", "text", "/in/a.csv"),
        ("${trigger.run.id}", "integer", 5),
        ("${trigger.run.outputs.rows}", "integer", 3),
        ("$${due.date}", "text", "${due.date}"),
        ("${HOME} $X", "text", "${HOME} $X"),
    ],
)
def test_a_default_may_depend_on_the_start(default: str, kind: str, value: Any) -> None:
    assert read({}, p={"type": kind, "default": default}) == {"p": value}
    assert read({"p": None}, p={"type": kind, "default": default}) == {"p": value}


def test_a_default_that_needs_the_runs_id_waits_for_it() -> None:
    declared = {"batch": {"default": "b-${run.id}"}, "day": {"default": "${due.date}", "type": "date"}}
    known = {name: Parameter.model_validate(body) for name, body in declared.items()}
    early = read_parameters("load", known, {}, Context(due=CONTEXT.due))
    assert early == {"day": "2027-02-01"}
    assert read_parameters("load", known, early, CONTEXT) == {"day": "2027-02-01", "batch": "b-7"}


def test_what_has_no_value_is_said() -> None:
    for default, says in (
        ("${previous.success.date}", "refers to ${previous.success.date}, but the job has not succeeded before"),
        ("${trigger.path}", "refers to ${trigger.path}, which this start does not have"),
    ):
        with pytest.raises(DefinitionError) as caught:
            read({}, Context(due=CONTEXT.due), p={"default": default})
        assert says in str(caught.value)


def test_a_value_is_never_filled_in() -> None:
    given = {"p": "${parameters.p} ${due.date} ${run.id}"}
    assert read(given, p={"default": "${due.date}"}) == given


def test_sensitive_values_are_kept_apart() -> None:
    known = {name: Parameter.model_validate(body) for name, body in (("token", {"sensitive": True}), ("day", {}))}
    values = read_parameters("load", known, {"token": "geheim", "day": "x"}, CONTEXT)
    shown, secret = split(known, values)
    assert (shown, secret) == ({"token": "***", "day": "x"}, {"token": "geheim"})
    assert list(secrets(secret)) == ["geheim"]
    assert split(known, {"token": None, "day": None}) == ({"token": None, "day": None}, {})


@pytest.mark.parametrize("token", [["x"] * 101, ["x" * 40_000] * 2])
def test_sensitive_values_are_few_and_short_because_output_is_searched_for_them(token: list[str]) -> None:
    assert read({"token": ["x"] * 100}, token={"sensitive": True, "many": True})["token"] == ["x"] * 100
    with pytest.raises(DefinitionError, match=r"sensitive parameters have .* 100 of 16,384 are the most"):
        read({"token": token}, token={"sensitive": True, "many": True})
    assert read({"token": token}, token={"many": True})["token"] == token


def test_constants_are_the_defaults_that_no_start_changes() -> None:
    bodies = {"a": {"default": 5, "type": "integer"}, "b": {"default": "${due.date}"}, "c": {}, "d": {"required": True}}
    known = {name: Parameter.model_validate(body) for name, body in bodies.items()}
    assert constants(known) == {"a": 5, "c": None}
    assert not needs_previous(known, {})
    assert needs_previous({"p": Parameter.model_validate({"default": "${previous.success.at}"})}, {})


def test_a_driver_gets_typed_values() -> None:
    bodies: dict[str, dict[str, Any]] = {
        "day": {"type": "date"}, "at": {"type": "datetime"}, "long": {"type": "duration"}, "n": {"type": "integer"},
        "none": {}, "days": {"type": "date", "many": True},
    }  # fmt: skip
    known = {name: Parameter.model_validate(body) for name, body in bodies.items()}
    given = {"day": "2027-01-31", "at": "2027-01-31T22:00:00Z", "long": "90s", "n": "5", "days": ["2027-01-31"]}
    day = datetime(2027, 1, 31, tzinfo=UTC).date()
    values = read_parameters("load", known, given, CONTEXT)
    assert {name: typed(parameter.limits, values[name]) for name, parameter in known.items()} == {
        "day": day, "at": datetime(2027, 1, 31, 22, tzinfo=UTC), "long": 90.0, "n": 5, "none": None, "days": [day],
    }  # fmt: skip


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(
    st.sampled_from(["text", "integer", "number", "boolean", "date", "datetime", "duration"]), st.booleans(), anything
)
def test_whatever_is_given_is_refused_or_canonical(kind: str, many: bool, value: Any) -> None:
    declared = {"type": kind, "many": many}
    says = ""
    try:
        found = read({"p": value}, p=declared)
    except DefinitionError as error:
        says = str(error)
    if says:
        assert says.startswith("job 'load': parameters.p must ")
    else:
        assert read(found, p=declared) == found
