"""A pattern of a parameter cannot freeze a process, whatever value is sent."""

import re
import time

import pytest

from jobfac.definitions.parameters.matching import is_simple
from jobfac.definitions.parameters.values import Limits, read_value
from tests.support.api_stage import Served

SLOW = r"(\w+\s?)*"
LONG = "a" * 60 + "!"


@pytest.mark.parametrize(
    "pattern", [SLOW, "(a|a)*b", "(a?){40}a{40}b", "a*a*a*a*a*a*a*a*b", r"(?=(a+)+b)a", r"(?<=a)?(a+)+>b"]
)
def test_patterns_that_may_take_long_are_not_simple(pattern: str) -> None:
    assert not is_simple(pattern)


@pytest.mark.parametrize(
    "pattern", ["[A-Z]{3}", r"\d{4}-\d\d", "[*+?|]+", "eu|us", r"(?P<year>\d{4})/[^/]+", r"\+\*[]a+]?"]
)
def test_usual_patterns_are_simple(pattern: str) -> None:
    assert is_simple(pattern)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("value", ["a b", "a" * 20, "a!", ""])
def test_a_pattern_means_the_same_in_a_process_of_its_own(value: str, many: bool) -> None:
    limits, given = Limits("text", many, pattern=SLOW), ["x", value] if many else value
    if re.fullmatch(SLOW, value):
        assert read_value(limits, given) == given
    else:
        with pytest.raises(ValueError, match="must match"):
            read_value(limits, given)


def test_a_value_that_takes_too_long_is_refused_while_others_are_served(served: Served) -> None:
    parameters = {"p": {"pattern": SLOW}}
    served.define("slow", command=["echo", "${parameters.p}"], parameters=parameters)
    before = time.process_time()
    answer = served.operator.post("/v1/jobs/slow/runs", json={"parameters": {"p": LONG}})
    assert answer.status_code == 422
    assert "within 1 s" in answer.json()["detail"]
    assert time.process_time() - before < 1.0  # of this process, in which the API runs
    assert served.operator.post("/v1/jobs/slow/runs", json={"parameters": {"p": "a b"}}).status_code == 201
