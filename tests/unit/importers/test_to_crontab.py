"""Jobs with simple schedules become a crontab that starts them at the same times."""

import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest

from jobfac.definitions import Job, from_data
from jobfac.definitions.parameters.placeholders import SAMPLE, fill
from jobfac.importers.crontab import Table, from_table
from jobfac.importers.to_crontab import to_crontab
from jobfac.recurrence import due_times

SPAN = datetime(2027, 3, 20, tzinfo=UTC), datetime(2027, 5, 2, tzinfo=UTC)


def written(schedule: dict[str, Any], **body: Any) -> tuple[str, list[str]]:
    text, left_out, _ = to_crontab(
        from_data({"jobs": {"j": {"command": "true", "schedules": [schedule], **body}}}).jobs
    )
    return text, left_out


@pytest.mark.parametrize(
    "schedule",
    [
        {"cron": "*/15 8-18 * * mon-fri"},
        {"cron": "@daily"},
        {"cron": "5 4 1,15 * sun"},
        {"times": {"at": ["06:30", "18:30", "12:00"]}},
        {"times": {"at": "06:30"}, "dates": {"days_of_week": ["mon", "sun"]}},
        {"times": {"minutes": [0, 20]}, "dates": {"weekdays": ["weekday"]}},
        {"times": {"hours": [1, 2], "minutes": 5}, "dates": {"days_of_month": [1, 31]}},
        {"times": {"every": "10m"}, "dates": {"weekdays": ["weekend"]}},
        {"times": {"every": "1h"}},
        {"times": {"every": "1d"}},
        {"times": {"every": "6h"}, "timezone": "UTC"},
    ],
)
def test_the_times_are_the_same(schedule: dict[str, Any]) -> None:
    body = {"jobs": {"j": {"command": "true", "schedules": [{"timezone": "Europe/Berlin", **schedule}]}}}
    text, left_out, [zone] = to_crontab(from_data(body).jobs)
    assert left_out == []
    assert zone == schedule.get("timezone", "Europe/Berlin")
    assert text.startswith(f"CRON_TZ={zone}\n")
    back, warnings = from_table(Table(tab=text), system=False, name="t", timezone=zone)
    assert warnings == []
    found = {due for one in from_data({"jobs": back}).jobs.values() for due in due_times(one.schedules[0], *SPAN)}
    assert sorted(found) == list(due_times(from_data(body).jobs["j"].schedules[0], *SPAN))


def test_the_command_does_the_same(tmp_path: Any) -> None:
    job = {
        "command": ["sh", "-c", 'printf "%s|" "$A" "$@"; pwd', "sh"],
        "arguments": ["it's", "100%"],
        "environment": {"A": "b c"},
        "directory": str(tmp_path),
    }
    text, _ = written({"cron": "0 6 * * *"}, **job)
    [entry] = from_table(Table(tab=text), system=False, name="t", timezone="UTC")[0].values()
    done = subprocess.run(entry["command"], shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == f"b c|it's|100%|{tmp_path}\n"
    assert isinstance(from_data({"jobs": {"t": entry}}).jobs["t"], Job)


@pytest.mark.parametrize(
    "body",
    [
        {"command": 'echo "$A $1"; pwd', "arguments": ["b c"]},
        {"command": "cd / && pwd; echo 100\\\\%"},
        {"command": 'echo "$A" $${run.id}|| exit', "environment": {"A": "$${due.date} b"}},
        {"command": "echo one & wait", "directory": "/"},
    ],
)
def test_a_command_of_the_shell_does_the_same(body: dict[str, Any]) -> None:
    job = from_data({"jobs": {"j": {"shell": True, **body}}}).jobs["j"]
    assert isinstance(job, Job)
    text, left_out = written({"cron": "0 6 * * *"}, shell=True, **body)
    assert left_out == []
    [entry] = from_table(Table(tab=text), system=False, name="t", timezone="UTC")[0].values()
    back = from_data({"jobs": {"t": entry}}).jobs["t"]
    assert isinstance(back, Job)
    assert ran(back) == ran(job)


def ran(job: Job) -> tuple[str, int]:
    """What a job of the shell prints, and its exit code, as the worker starts it."""
    command, *arguments = [fill(text, SAMPLE) for text in (*job.command, *job.arguments)]
    environment = {name: fill(str(value), SAMPLE) for name, value in job.environment.items()}
    words = ["/bin/sh", "-c", command, "sh", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=job.directory, check=False)
    return done.stdout, done.returncode


def test_a_directory_that_is_gone_keeps_all_of_a_command_from_running() -> None:
    text, _ = written({"cron": "0 6 * * *"}, shell=True, command="true; echo ran", directory="/nowhere/at/all")
    [entry] = from_table(Table(tab=text), system=False, name="t", timezone="UTC")[0].values()
    assert subprocess.run(entry["command"], shell=True, capture_output=True, text=True, check=False).stdout == ""


def test_what_a_job_loses_is_a_remark() -> None:
    body = {"already_running": "deny", "timeout": "5m", "retry": {"attempts": 3}, "pool": "etl", "priority": 4}
    text, [remark] = written({"cron": "0 6 * * *", "missed": "all"}, **body)
    assert "0 6 * * * true # j" in text
    lost = "already_running, timeout, retry, pool, missed"
    assert remark == f"job 'j' is written without {lost}: cron has nothing like that"


@pytest.mark.parametrize(
    ("schedule", "body", "why"),
    [
        ({"every": "90m"}, {}, "cron has no intervals of real time and no single dates"),
        ({"times": {"every": "6h"}, "timezone": "Europe/Berlin"}, {}, "cron has no such interval"),
        ({"times": {"every": "50m"}}, {}, "cron has no such interval"),
        ({"times": {"at": "06:30:15"}}, {}, "cron knows no seconds"),
        ({"times": {"at": "06:30"}, "dates": {"nth": "second tue"}}, {}, "cron cannot name these days"),
        ({"cron": "0 6 1-31 * 1"}, {}, "'0 6 1-31 * 1' cannot be written so that it means the same"),
        ({"cron": "0 6 1-31/2 * mon"}, {}, "'0 6 1-31/2 * mon' cannot be written so that it means the same"),
        ({"cron": "0 6 1 * sun-sat"}, {}, "'0 6 1 * sun-sat' cannot be written so that it means the same"),
        ({"cron": "0 6 * * *", "jitter": "1m"}, {}, "cron has nothing like jitter"),
        ({"cron": "0 6 * * *"}, {"user": "batch"}, "it runs as 'batch', and a user's crontab has one user"),
        ({"cron": "0 6 * * *"}, {"environment": {"T": {"secret": "env:T"}}}, "its variable T is a secret"),
        ({"cron": "0 6 * * *"}, {"shell": True, "command": "a\nb"}, "its command has several lines or a #"),
        ({"cron": "0 6 * * *"}, {"command": ["a", "\\%"]}, "its command has a backslash before a %"),
        ({"cron": "0 6 * * *"}, {"command": "a ${run.id}"}, "it has parameters or placeholders"),
        ({"cron": "0 6 * * *"}, {"parameters": {"x": {"default": "1"}}}, "it has parameters or placeholders"),
        ({"cron": "0 6 * * *", "parameters": {"x": "2"}}, {"parameters": {"x": {}}}, "it has parameters or"),
        ({"cron": "0 6 * * *"}, {"each_worker": True}, "it runs on each worker"),
        ({"cron": "0 6 * * *", "gap": "skip"}, {}, "cron has nothing like gap and overlap"),
    ],
)
def test_what_cron_cannot_say_is_left_out_with_a_sentence(
    schedule: dict[str, Any], body: dict[str, Any], why: str
) -> None:
    text, [sentence] = written(schedule, **body)
    assert text == ""
    assert sentence.startswith(f"schedule '1' of job 'j' is left out: {why}")


def test_what_is_switched_off_is_a_remark() -> None:
    text, _ = written({"cron": "0 6 * * *", "enabled": False})
    assert text == "CRON_TZ=UTC\n# 0 6 * * * true # j\n"
    jobs = from_data({"jobs": {"j": {"command": "true", "schedules": [{"cron": "0 6 * * *"}]}}}).jobs
    assert to_crontab(jobs, paused={("j", "1")}).text == text


def test_a_crontab_has_the_jobs_of_one_user() -> None:
    body = {"command": "true", "schedules": [{"cron": "@daily"}]}
    jobs = from_data({"jobs": {"theirs": {**body, "user": "backup"}, "ours": body}}).jobs
    ours, theirs = to_crontab(jobs), to_crontab(jobs, "backup")
    assert ("# ours" in ours.text, "# theirs" in ours.text) == (True, False)
    assert ("# ours" in theirs.text, "# theirs" in theirs.text) == (False, True)
    assert ours.left_out[0].endswith("it runs as 'backup', and a user's crontab has one user")
    assert theirs.left_out[0].endswith("it runs as the worker, and a user's crontab has one user")
