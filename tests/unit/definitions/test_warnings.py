"""What a definition may say but probably does not mean."""

import pytest

from jobfac.definitions import from_data, loads


def test_an_unreachable_step_is_a_warning() -> None:
    definitions = loads(
        "jobs:\n  p: {command: x}\n  s:\n    steps:\n"
        "      - {name: a, jobs: p, on_success: end}\n      - {name: b, jobs: p}\n"
    )
    assert [str(warning) for warning in definitions.warnings] == [
        "line 6: job 's': steps[1] 'b' cannot be reached from the first step"
    ]


@pytest.mark.parametrize(
    ("on", "load", "clean", "warned"),
    [
        ("failed", "on_failure: {step: clean}", "", True),
        ("failed", "on_failure: next", "", True),
        ("failed", "on_failure: end", "", False),
        ("failed", "on_failure: {step: clean}", "on_success: end_failed", False),
        ("failed", "on_failure: {step: clean}", "on_success: {step: load}", False),
        ("failed", "on_mixed: {step: clean}", "", False),
        ("[failed, mixed]", "on_failure: {step: clean}", "", False),
        ("finished", "on_failure: {step: clean}", "", False),
    ],
)
def test_a_handled_failure_of_which_nobody_is_told_is_a_warning(on: str, load: str, clean: str, warned: bool) -> None:
    """Such a run ends mixed: there is no message for `failed`, and no failure of the sequence on the pages."""
    steps = [
        f"{{name: load, jobs: p, {load}, on_success: end}}",
        f"{{name: clean, jobs: p{', ' if clean else ''}{clean}}}",
    ]
    tells = f"notify: [{{on: {on}, to: {{email: a@example.org}}}}]"
    warnings = loads(f"jobs:\n  p: {{command: x}}\n  s: {{steps: [{', '.join(steps)}], {tells}}}\n").warnings
    found = [str(one) for one in warnings if "ends mixed" in str(one)]
    assert (
        found
        == [
            "line 3: job 's': notify has failed alone, but on_failure of 'load' leads on, and such a run ends mixed; "
            "add mixed, or let the steps behind it go to end_failed"
        ]
        * warned
    )


@pytest.mark.parametrize(("times", "warned"), [("at: '06:00'", 1), ("minutes: 0", 1), ("hours: 6", 0)])
def test_a_condition_that_holds_for_a_minute_is_a_warning(times: str, warned: int) -> None:
    step = f"{{name: a, jobs: p, start_if: {{times: {{{times}}}}}}}"
    warnings = loads(f"jobs:\n  p: {{command: x}}\n  s:\n    steps:\n      - {step}\n").warnings
    assert [str(warning) for warning in warnings] == [
        "line 5: job 's': steps[0].start_if holds for one minute at each of these times and does not wait for them; "
        "use between or hours, or a step with wait"
    ] * warned


@pytest.mark.parametrize(
    ("jobs", "warned"),
    [("p", True), ("[p, q]", False), ("[p, q], proceed: when_any", True), ("inner", False), ("fleet", False)],
)
def test_on_mixed_without_effect_is_a_warning(jobs: str, warned: bool) -> None:
    steps = f"[{{name: a, jobs: {jobs}, on_success: end, on_mixed: {{step: b}}}}, {{name: b, jobs: p}}]"
    inner = "inner: {steps: [{name: i, jobs: p}]}, fleet: {command: x, each_worker: true}"
    found = loads(f"jobs: {{p: {{command: x}}, q: {{command: x}}, {inner}, s: {{steps: {steps}}}}}")
    assert bool(found.warnings) == warned


def test_an_event_that_never_happens_is_a_warning() -> None:
    events = "[failed, running_long, retry, overdue, paused, missed, approval_wanted]"
    to = "to: {email: ops@example.org}"
    text = (
        f"jobs:\n  p: {{command: x, notify: [{{on: {events}, {to}}}]}}\n"
        f"  s: {{steps: [{{name: a, jobs: p}}], notify: [{{on: retry, {to}}}, {{on: retry, of: jobs, {to}}}]}}\n"
        f"  all: {{command: x, warn_after: 1m, retry: {{attempts: 2}}, expect: {{every: 1h}}, pause_after: 2,\n"
        f"    schedules: [{{every: 1h}}], notify: [{{on: {events.replace(', approval_wanted', '')}, {to}}}]}}\n"
    )
    start, end = "job 'p': notify[0].on has", "which never happens without"
    assert [str(warning).partition(": ")[2] for warning in loads(text).warnings] == [
        f"{start} running_long, {end} warn_after",
        f"{start} retry, {end} attempts of retry",
        f"{start} overdue, {end} expect",
        f"{start} paused, {end} pause_after",
        f"{start} missed, {end} schedules",
        f"{start} approval_wanted, {end} a step with approve",
        "job 's': notify[0].on has retry, which only the jobs of a sequence have; add `of: jobs`",
    ]


@pytest.mark.parametrize(
    ("after", "warned"),
    [
        ("after: {all: [{job: p}, {job: q}]}", True),
        ("after: {all: [{job: p}, {job: q}]}, within: 6h", False),
        ("after: {all: [{job: p}]}", False),
        ("after: {any: [{job: p}, {job: q}]}", False),
    ],
)
def test_a_start_after_all_that_an_extra_run_would_shift_is_a_warning(after: str, warned: bool) -> None:
    found = loads(f"jobs: {{p: {{command: x}}, q: {{command: x}}, r: {{command: x, schedules: [{{{after}}}]}}}}")
    found_in = [str(one).partition("job 'r': ")[2].partition(":")[0] for one in found.warnings]
    assert found_in == ["schedules[0].after has all without within"] * warned


def test_files_that_no_run_would_handle_are_a_warning() -> None:
    jobs = {
        policy: {"command": "x", "already_running": policy, "schedules": [{"every": "1h"}, {"file": "/in/*"}]}
        for policy in ("start", "deny", "queue", "replace")
    }
    found = [str(one) for one in from_data({"jobs": jobs}).warnings]
    assert [one.split(" starts")[0] for one in found] == [
        f"job '{policy}': schedules[1].file" for policy in ("deny", "replace")
    ]
    assert found[0].endswith("is denied and does not handle its file; use already_running: queue")


def test_an_event_that_the_jobs_of_a_sequence_do_not_send_to_it_is_a_warning() -> None:
    steps = [{"name": "a", "jobs": "p"}]
    to = {"email": "ops@example.org"}
    jobs_only = {"on": ["failed", "overdue"], "of": "jobs", "to": to}
    both = {"on": ["failed", "overdue", "missed"], "of": "both", "to": to}
    notify = {"expect": {"every": "1h"}, "notify": [jobs_only, both]}
    found = from_data({"jobs": {"p": {"command": "x"}, "s": {"steps": steps, **notify}}})
    why = "which is not sent for the jobs inside; add it to their own notify"
    assert [str(one) for one in found.warnings] == [
        f"job 's': notify[0].on has overdue, {why}",
        f"job 's': notify[1].on has missed, {why}",
    ]
