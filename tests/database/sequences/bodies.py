"""Random definitions of sequences, and the jobs that they run."""

from typing import Any

from hypothesis import strategies as st

from jobfac import definitions as d
from jobfac.definitions import DefinitionError
from tests.support.sequence_model import REFUSED

STEPS = ["s1", "s2", "s3", "s4"]
JOBS = ["a", "b", "c", "a", "b", "c", "inner", "inner", REFUSED]
FAN = {"parameters": {"n": {"type": "integer", "required": True}}}
KNOWN = {job: {"command": ["true"], **(FAN if job.startswith("fan") else {})} for job in [*JOBS, "fan", "fan2"]}
_EACH = [{"job": "a", "on": "finished"}, {"job": "inner", "on": "finished"}, {"job": "fan"}]
FOLLOWERS = {
    "each": {"command": ["true"], "pool": "elsewhere", "schedules": [{"after": {"any": _EACH}}]},
    "both": {"command": ["true"], "pool": "elsewhere", "schedules": [{"after": {"all": [{"job": "a"}, {"job": "b"}]}}]},
}
"""Jobs that nobody claims. ``each`` starts after each end of the job ``a``, each end of the sequence ``inner``, and
each success of ``fan``; ``both`` after successes of ``a`` and ``b``."""

STRICT = {"jobs": ["fan"], "for_each": {"n": [1, 2, 3, 4, 5]}, "stop_on_failure": True}
"""A step that starts no more runs after its first failure."""

WAITS: list[dict[str, Any]] = [
    {"duration": "1h"},
    {"file": "/in/*.csv", "pool": "etl"},
    {"file": "/in/*.csv", "timeout": "1h", "otherwise": "succeed"},
    {"http": "https://rates.example.org", "timeout": "1h"},
]

INNER = {"steps": [{"name": "i", "jobs": ["a", "b"], "on_mixed": "end"}]}


def bodies(closed_day: str) -> st.SearchStrategy[dict[str, Any]]:
    """Generate sequences of up to four steps. A step may have a condition that does not hold."""
    steps = st.integers(1, 4).flatmap(
        lambda number: st.tuples(*(_step(name, number, closed_day) for name in STEPS[:number]))
    )
    return st.fixed_dictionaries({"steps": steps.map(list), "maximum_visits": st.integers(1, 3)}).filter(_is_valid)


def _step(name: str, number: int, closed_day: str) -> st.SearchStrategy[dict[str, Any]]:
    goes = st.sampled_from(["next", "next", "end", "end_failed", *({"step": other} for other in STEPS[:number])])
    closed = st.builds(lambda go: {"dates": {"on": [closed_day]}, "otherwise": go}, goes)
    waiting = {"name": st.just(name), "on_success": goes, "on_failure": goes}
    fans = {"at_most": st.integers(1, 3), "on_success": goes, "on_failure": goes, "on_mixed": goes}
    fan = {
        "name": st.just(name),
        "jobs": st.sampled_from([["fan"], ["fan", "fan2"]]),
        "for_each": st.fixed_dictionaries({"n": st.lists(st.integers(1, 9), min_size=1, max_size=4)}),
    }
    strict = {key: st.just(value) for key, value in STRICT.items()}
    common = {"name": st.just(name), "jobs": st.lists(st.sampled_from(JOBS), min_size=1, max_size=3, unique=True)}
    waits = {"proceed": st.sampled_from(["when_all", "when_any"]), "on_failure": goes, "on_mixed": goes}
    optional = {"start_if": closed, "on_success": goes}
    return st.one_of(
        st.fixed_dictionaries({**common, **waits}, optional=optional),
        st.fixed_dictionaries({**common, "proceed": st.just("at_once")}, optional=optional),
        st.fixed_dictionaries(fan, optional=fans),
        st.fixed_dictionaries({**strict, "name": st.just(name)}, optional=fans),
        st.fixed_dictionaries({**waiting, "approve": st.sampled_from([{}, {"timeout": "1h", "otherwise": "succeed"}])}),
        st.fixed_dictionaries({**waiting, "wait": st.sampled_from(WAITS)}),
    )


def _is_valid(body: dict[str, Any]) -> bool:
    try:
        d.from_data({"jobs": {"seq": body}}, known=KNOWN)
    except DefinitionError:
        return False
    return True
