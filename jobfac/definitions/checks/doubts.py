"""What a definition may say but probably does not mean: the warnings."""

from collections.abc import Collection, Iterator

from jobfac.definitions.checks.ways import END, FAILED_END, Children, closure, may_be_mixed, targets, ways
from jobfac.definitions.models import AnyJob, Job, Sequence
from jobfac.definitions.notify import ABOUT_JOBS
from jobfac.definitions.problems import Finding, finding

OF_PROGRAMS = ("running_long", "retry")
"""Events of runs of programs: a run of a sequence has none of them."""


def doubts(definition: AnyJob, tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    """Return what is allowed but probably not intended. ``tree`` and ``on_each``: as for ``check``."""
    if isinstance(definition, Sequence):
        yield from _unreachable(definition, tree, on_each)
        yield from _momentary(definition)
        yield from _untold(definition, tree, on_each)
    for look in (_unheard, _turned_away, _shifting):
        yield from look(definition)


def _unreachable(definition: Sequence, tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    """Return the steps that cannot be reached."""
    onward = ways(definition.steps, tree, on_each)
    reached = closure({definition.steps[0].name}, onward)
    for position, step in enumerate(definition.steps):
        if step.name not in reached:
            path = ("steps", position)
            yield finding(path, f"'{step.name}' cannot be reached from the first step")


def _momentary(definition: Sequence) -> Iterator[Finding]:
    """Return the conditions that hold for one minute only. Who writes them may expect that the step waits."""
    for position, step in enumerate(definition.steps):
        times = None if step.start_if is None else step.start_if.times
        if times is not None and (times.at or times.minutes):
            what = "holds for one minute at each of these times and does not wait for them"
            yield finding(("steps", position, "start_if"), f"{what}; use between or hours, or a step with wait")


def _untold(definition: Sequence, tree: Children, on_each: Collection[str]) -> Iterator[Finding]:
    """Return that the events leave out a failure that another step handles: such a run ends mixed, and not failed."""
    told = {event for entry in definition.notify if entry.of != "jobs" for event in entry.on}
    if "failed" not in told or told & {"mixed", "finished"}:
        return
    onward = ways(definition.steps, tree, on_each, FAILED_END)
    for step, field, target in targets(definition.steps, FAILED_END):
        if field == "on_failure" and (target is END and step is definition.steps[0]):
            continue  # nothing has succeeded then
        if field == "on_failure" or (field == "on_mixed" and may_be_mixed(step, tree, on_each)):
            others = {name: following - {step.name} for name, following in onward.items()}
            if END in closure({target} - {step.name}, others):
                what = f"has failed alone, but {field} of '{step.name}' leads on, and such a run ends mixed"
                yield finding(("notify",), f"{what}; add mixed, or let the steps behind it go to end_failed")
                return


def _unheard(definition: AnyJob) -> Iterator[Finding]:
    """Return the events in ``notify`` that never happen."""
    needs = _needs(definition)
    for position, entry in enumerate(definition.notify):
        for event in entry.on:
            path = ("notify", position, "on")
            if entry.of != "sequence":
                if event in ABOUT_JOBS and (entry.of == "jobs" or event in needs):
                    yield finding(
                        path, f"has {event}, which is not sent for the jobs inside; add it to their own notify"
                    )
            elif isinstance(definition, Sequence) and event in OF_PROGRAMS:
                yield finding(path, f"has {event}, which only the jobs of a sequence have; add `of: jobs`")
            elif event in needs:
                yield finding(path, f"has {event}, which never happens without {needs[event]}")


def _shifting(definition: AnyJob) -> Iterator[Finding]:
    """Return the schedules that one run out of turn shifts for good: an end waits for the others for ever."""
    for position, schedule in enumerate(definition.schedules):
        if schedule.after is not None and len(schedule.after.all or ()) > 1 and schedule.within is None:
            yield finding(
                ("schedules", position, "after"),
                "has all without within: an extra run of one of the jobs, by hand or of a backfill, counts for the "
                "next start and so shifts all later ones; add within, such as 6h, shorter than from start to start",
            )


def _turned_away(definition: AnyJob) -> Iterator[Finding]:
    """Return the schedules on files that would leave some files without a run."""
    ends = {"deny": "is denied and does not handle its file", "replace": "stops the run that handles the one before"}
    if definition.already_running not in ends:
        return
    for position, schedule in enumerate(definition.schedules):
        if schedule.file is not None:
            yield finding(
                ("schedules", position, "file"),
                f"starts a run for each file, but with already_running: {definition.already_running} a file that comes "
                f"while another run is active {ends[definition.already_running]}; use already_running: queue",
            )


def _needs(definition: AnyJob) -> dict[str, str]:
    """Return by event what the definition lacks for it to happen."""
    steps = definition.steps if isinstance(definition, Sequence) else ()
    is_tried_again = isinstance(definition, Job) and definition.retry.attempts > 1
    there = {
        ("running_long", "warn_after"): isinstance(definition, Job) and definition.warn_after is not None,
        ("retry", "attempts of retry"): is_tried_again,
        ("overdue", "expect"): definition.expect is not None,
        ("on_time_again", "expect"): definition.expect is not None,
        ("paused", "pause_after"): definition.pause_after is not None,
        ("missed", "schedules"): bool(definition.schedules),
        ("approval_wanted", "a step with approve"): any(step.approve for step in steps),
    }
    return {event: need for (event, need), is_there in there.items() if not is_there}
