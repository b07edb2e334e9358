"""The plan for applying definitions."""

from jobfac.definitions import Difference, plan

A = {"command": ["a"], "retry": {"attempts": 3}, "schedules": [{"cron": "@daily"}, {"every": "1h"}]}
B = {"command": ["b"]}


def test_a_plan_adds_changes_removes_and_keeps() -> None:
    result = plan(stored={"a": A, "gone": B, "b": B}, wanted={"new": B, "b": B, "a": A | {"timeout": "1m"}}, prune=True)
    assert result.add == ("new",)
    assert result.remove == ("gone",)
    assert result.same == ("b",)
    assert result.change == {"a": (Difference("timeout", None, "1m"),)}


def test_jobs_are_removed_only_with_prune() -> None:
    assert plan(stored={"gone": B}, wanted={}, prune=False).remove == ()


def test_the_order_of_keys_is_no_change() -> None:
    assert plan(stored={"a": A}, wanted={"a": dict(reversed(A.items()))}, prune=False).same == ("a",)


def test_differences_are_the_innermost_ones() -> None:
    wanted = {"command": ["a", "-v"], "retry": {"delay": "1m"}, "schedules": [{"cron": "@daily"}, {"every": "2h"}]}
    assert plan(stored={"a": A}, wanted={"a": wanted}, prune=False).change["a"] == (
        Difference("command", ["a"], ["a", "-v"]),
        Difference("retry.attempts", 3, None),
        Difference("retry.delay", None, "1m"),
        Difference("schedules[1].every", "1h", "2h"),
    )


def test_a_longer_list_is_shown_completely() -> None:
    grown = A | {"schedules": [{"cron": "@daily"}]}
    assert plan(stored={"a": grown}, wanted={"a": A}, prune=False).change["a"] == (
        Difference("schedules", grown["schedules"], A["schedules"]),
    )
