"""The fingerprint of what a start gave: which starts count as the same work."""

from typing import Any

import pytest

from jobfac.definitions.parameters import AROUND, Parameter, fingerprint

DECLARED = {
    "region": Parameter(default="eu"),
    "limit": Parameter(type="integer"),
    "day": Parameter(default="${due.date}"),
    "token": Parameter(sensitive=True),
}


def mark(is_template: bool = False, **given: Any) -> str:
    return fingerprint(DECLARED, given, is_template)


@pytest.mark.parametrize("given", [{"region": "eu"}, {"limit": None}, {"token": "x"}])
def test_defaults_and_sensitive_values_do_not_count(given: dict[str, Any]) -> None:
    assert mark(**given) == mark()


def test_the_form_of_a_value_does_not_count() -> None:
    assert mark(limit="5", region="us") == mark(region="us", limit=5)


def test_other_values_and_other_sequences_are_other_work() -> None:
    given: list[dict[str, Any]] = [{}, {"region": "us"}, {"limit": 5}, {"day": "2027-01-31"}, {AROUND: "f1"}]
    assert len({mark(**one) for one in given}) == len(given)


def test_a_text_of_a_definition_counts_as_it_stands() -> None:
    assert mark(is_template=True, limit="${trigger.size}") != mark()
    assert mark(is_template=True, day="${due.date - 1d}") != mark(day="${due.date}")
