"""How a worker executes a definition: order, pools and labels, and the environment of the program."""

import json
import os
import pwd
import sqlite3
import tempfile
from pathlib import Path

import pytest

from tests.support.factory import USUAL, wait_for
from tests.support.fleet import Fleet, leave
from tests.support.process_stage import lives

NOBODY = pwd.getpwnam("nobody")


def script(text: str) -> list[str]:
    return ["sh", "-c", text]


def test_four_workers_run_1000_runs_of_mixed_priority_once_each(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    log = fleet.folder / "log"
    fleet.define(job={"command": ["/bin/sh", "-c", f'echo "$JOBFAC_RUN_ID $JOBFAC_ATTEMPT" >>{log}']})
    for priority in (0, 5, -5, 1):
        fleet.start("job", 250, priority=priority)
    for number in range(4):
        fleet.factory.role("worker", "--name", f"w{number}", "--slots", "4", **USUAL)
    found = fleet.finish(timeout=120)
    assert [(row["state"], row["attempt"]) for row in found] == [("succeeded", 1)] * 1000
    assert sorted(log.read_text().splitlines()) == sorted(f"{row['id']} 1" for row in found)
    assert len({row["worker"] for row in found}) == 4
    logs = fleet.logs()
    assert "locked" not in logs
    assert "failed" not in logs
    first = [row["id"] for row in sorted(found, key=lambda row: row["started_at"])][:100]
    assert all(250 < run_id <= 500 for run_id in first), "the highest priority came first"


def test_one_slot_takes_the_highest_priority_first_then_the_oldest(fleet: Fleet) -> None:
    fleet.define(job=fleet.journal.job(0))
    ids = {priority: fleet.start("job", 2, priority=priority) for priority in (0, 7, -3)}
    fleet.worker(slots=1)
    fleet.finish()
    assert [line.run for line in fleet.journal.lines("start")] == ids[7] + ids[0] + ids[-3]


def test_pools_and_labels_decide_which_worker_claims_a_run(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(
        plain=fleet.journal.job(0),
        big=fleet.journal.job(0, pool="big"),
        gpu=fleet.journal.job(0, pool="big", labels={"gpu": "yes"}),
        nowhere=fleet.journal.job(0, labels={"zone": "moon"}),
    )
    plain, big, gpu, nowhere = (fleet.start(job, 3) for job in ("plain", "big", "gpu", "nowhere"))
    fleet.worker("small")
    fleet.worker("large", "--pool", "big", "--label", "zone=a")
    fleet.worker("with-gpu", "--pool", "big", "--pool", "default", "--label", "gpu=yes")
    found = {run_id: fleet.wait(run_id)["worker"] for run_id in plain + big + gpu}
    assert {found[run_id] for run_id in plain} <= {"small", "with-gpu"}
    assert {found[run_id] for run_id in big} <= {"large", "with-gpu"}
    assert {found[run_id] for run_id in gpu} == {"with-gpu"}
    assert {fleet.get(run_id)["state"] for run_id in nowhere} == {"queued"}


def test_a_job_for_a_queue_that_did_not_exist_when_the_worker_started_is_run(fleet: Fleet) -> None:
    fleet.worker("w1", "--label", "new=yes")
    fleet.define(job=fleet.journal.job(0, labels={"new": "yes"}))
    assert fleet.one("job")["state"] == "succeeded"


def test_exit_codes_and_signals_determine_the_state(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(
        fails={"command": script("exit 3")},
        warns={"command": script("exit 4"), "success_codes": [0, 9], "warning_codes": [4]},
        nine={"command": script("exit 9"), "success_codes": [0, 9]},
        dies={"command": script("kill -SEGV $$")},
        again={"command": script('[ "$JOBFAC_ATTEMPT" = 3 ]'), "retry": {"attempts": 5, "delay": "0.05s"}},
        gives_up={"command": ["false"], "retry": {"attempts": 3, "delay": "0.05s"}},
        slow={
            "command": ["sleep", "600"],
            "timeout": "0.3s",
            "retry": {"attempts": 2, "delay": "0s", "on": ["failed"]},
        },
    )
    fleet.worker()
    columns = ("state", "exit_code", "signal", "attempt", "reason")
    found = {job: tuple(fleet.one(job)[name] for name in columns) for job in ("fails", "warns", "nine", "dies")}
    assert found == {
        "fails": ("failed", 3, None, 1, "exit code 3"),
        "warns": ("succeeded", 4, None, 1, "exit code 4 (a warning)"),
        "nine": ("succeeded", 9, None, 1, None),
        "dies": ("failed", None, 11, 1, "killed by signal 11 (SIGSEGV)"),
    }
    again = fleet.one("again")
    assert (again["state"], again["attempt"]) == ("succeeded", 3)
    assert [a["state"] for a in fleet.attempts(again["id"])] == ["failed", "failed", "succeeded"]
    assert (fleet.one("gives_up")["state"], fleet.get(again["id"] + 1)["attempt"]) == ("failed", 3)
    slow = fleet.one("slow")
    assert (slow["state"], slow["attempt"]) == ("timed_out", 1)
    assert all(attempt["cpu_seconds"] >= 0 for attempt in fleet.attempts(slow["id"]))
    assert slow["reason"] == "ran longer than its timeout of 300ms"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"command": ["/no/such"]}, "there is no program '/no/such' on this worker; install it or correct the command"),
        ({"command": ["/etc/hostname"]}, "'/etc/hostname' may not be executed by this worker"),
        ({"command": ["true"], "directory": "/no/dir"}, "the directory '/no/dir' does not exist on this worker"),
        ({"command": ["true"], "user": "nobody-at-all"}, "there is no user 'nobody-at-all' on this worker"),
        (
            {"command": ["true"], "environment": {"T": {"secret": "env:NOT_THERE"}}},
            "the secret env:NOT_THERE is not in",
        ),
        ({"command": ["true"], "output": {"stdout": {"append": "/proc/x/y"}}}, "the output file '/proc/x/y'"),
        ({"command": ["true", "x" * 300000]}, "are too long"),
    ],
)
def test_a_failed_start_has_a_reason(sqlite_fleet: Fleet, body: dict[str, object], sentence: str) -> None:
    fleet = sqlite_fleet
    fleet.define(job=body, after={})
    fleet.worker()
    found = fleet.one("job")
    assert found["state"] == "start_failed"
    assert sentence in found["reason"]
    assert fleet.one("after")["state"] == "succeeded"


def test_a_long_run_is_reported_and_continues(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    gate = fleet.folder / "gate"
    fleet.define(job={"command": script(f"until [ -e {gate} ]; do sleep 0.02; done"), "warn_after": "0.2s"})
    fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: "running_long" in fleet.events(run_id), "reported while it runs")
    gate.touch()
    found = fleet.wait(run_id)
    assert found["state"] == "succeeded"
    assert fleet.events(found["id"]) == ["queued", "running", "running_long", "succeeded"]


def test_the_environment_is_the_allow_list_and_the_jobs_variables(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(job={"command": ["env"], "environment": {"MODE": "nightly"}, "directory": str(fleet.folder)})
    fleet.worker(UNKNOWN_TO_JOBS="1", LC_TIME="C", TZ="UTC", SHELL="/usr/sbin/nologin")
    found = fleet.one("job", payload="the payload")
    seen = dict(line.split("=", 1) for line in fleet.text(found["id"]).decode().splitlines())
    assert seen.keys() <= {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PWD", "LC_TIME", "LC_ALL",
        "LC_CTYPE", "MODE", "JOBFAC_RUN_ID", "JOBFAC_ATTEMPT", "JOBFAC_JOB", "JOBFAC_REPORT", "JOBFAC_PAYLOAD",
        "JOBFAC_PAYLOAD_FILE", "JOBFAC_MARKER",
    }  # fmt: skip
    assert (seen["MODE"], seen["LC_TIME"], seen["TZ"], seen["PATH"]) == ("nightly", "C", "UTC", os.environ["PATH"])
    assert seen["SHELL"] == "/bin/sh", "as under cron: `flock -c` uses it, and the account of a service has no login"
    assert (seen["JOBFAC_RUN_ID"], seen["JOBFAC_ATTEMPT"], seen["JOBFAC_JOB"]) == (str(found["id"]), "1", "job")


def test_payloads_are_passed_in_a_file_and_small_ones_in_the_environment_too(fleet: Fleet) -> None:
    fleet.define(job={"command": script('cat "$JOBFAC_PAYLOAD_FILE"; echo; printf %s "$JOBFAC_PAYLOAD" | wc -c')})
    fleet.worker()
    text = 'größer "zitiert" \n zweite Zeile 🙂'
    small = fleet.one("job", payload=text)
    assert fleet.text(small["id"]).decode() == f"{text}\n{len(text.encode())}\n"
    large = fleet.one("job", payload="x" * 200_000)
    assert fleet.text(large["id"]) == b"x" * 200_000 + b"\n0\n"
    # The outcome is durable and visible shortly before the files are removed.
    wait_for(lambda: not list((fleet.folder / "spool").glob("*/*/*.payload")), "the payloads gone")


def test_arguments_a_shell_only_when_asked_for_and_detached_programs(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    pid = fleet.folder / "pid"
    fleet.define(
        plain={"command": ["echo", "$HOME", "a b"]},
        split={"command": "echo 'one argument' $HOME"},
        shell={"command": 'echo "$((6 * 7))" "$@"', "shell": True},
        detach={"command": script(f"sleep 600 & echo $! >{pid}"), "detach": True},
        leaves={"command": script(f"sleep 600 & echo $! >{pid}")},
    )
    fleet.worker()
    assert fleet.text(fleet.one("plain", arguments=["*", ";"])["id"]) == b"$HOME a b * ;\n"
    assert fleet.text(fleet.one("split")["id"]) == b"one argument $HOME\n"
    assert fleet.text(fleet.one("shell", arguments=["x y"])["id"]) == b"42 x y\n"
    assert fleet.one("detach")["state"] == "succeeded"
    os.kill(int(pid.read_text()), 9)  # fails if the process does not exist
    assert fleet.one("leaves")["state"] == "succeeded"
    assert not lives(int(pid.read_text()))


def test_a_program_reports_its_progress_and_its_outputs(fleet: Fleet) -> None:
    gate = fleet.folder / "gate"
    report = """
    echo '{"progress": 0.5, "message": "half way"}' >>"$JOBFAC_REPORT"
    until [ -e "$1" ]; do sleep 0.02; done
    echo '{"outputs": {"rows": 12}}' >>"$JOBFAC_REPORT"
    echo 'no report at all' >>"$JOBFAC_REPORT"
    printf '{"result": "failed", "exit_message": "no rows"}' >>"$JOBFAC_REPORT"
    """
    fleet.define(job={"command": [*script(report), "sh", str(gate)]}, aware={"command": script(report), "aware": True})
    fleet.worker()
    (run_id,) = fleet.start("job")
    wait_for(lambda: fleet.get(run_id)["progress"] == 0.5, "half way", timeout=5)
    assert fleet.get(run_id)["message"] == "half way"
    gate.touch()
    found = fleet.wait(run_id)
    assert (found["state"], found["exit_message"], json.loads(found["outputs"])) == (
        "succeeded",
        "no rows",
        {"rows": 12},
    )
    aware = fleet.one("aware", arguments=["sh", str(gate)])
    skipped = "a line of its report is not a JSON object and was skipped"
    assert (aware["state"], aware["reason"]) == ("failed", f"the program reported failure: no rows; {skipped}")


def test_no_content_of_a_programs_files_harms_the_worker(fleet: Fleet) -> None:
    half = r"""printf '%s\n' '{"exit_message": "a\ud800", "message": "\udfff", "outputs": {"a": "\ud800"}}' """
    fleet.define(
        half={"command": script(half + '>> "$JOBFAC_REPORT"')},
        deep={"command": script("""python3 -c 'print("[" * 60000)' >> "$JOBFAC_REPORT" """)},
        pipe={"command": script('mkfifo "$JOBFAC_REPORT"')},
        folders={"command": script('rm "$JOBFAC_PAYLOAD_FILE"; mkdir "$JOBFAC_REPORT" "$JOBFAC_PAYLOAD_FILE"')},
        spool={
            "command": script(
                'cd "${JOBFAC_REPORT%/*}"; for one in *.stdout; do rm "$one"; mkdir "$one"; done; echo hi'
            )
        },
        after={"command": script("echo fine")},
    )
    worker = fleet.worker()
    assert fleet.one("half")["exit_message"] == "a?"
    for job in ("deep", "pipe", "folders", "spool", "after"):
        found = fleet.one(job, payload="text")
        assert (found["state"], found["attempt"]) == ("succeeded", 1), job
    assert worker.poll() is None
    assert leave(worker) == 0


def test_secrets_are_resolved_on_the_worker_masked_and_never_stored(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    key = fleet.folder / "key"
    key.write_text("tajemství-42\n")
    fleet.define(
        job={
            "command": script('echo "token $TOKEN"; echo "key $KEY" >&2; printf %s "$TOKEN" | wc -c'),
            "environment": {"TOKEN": {"secret": "env:EXPORT_TOKEN"}, "KEY": {"secret": f"file:{key}"}},
        }
    )
    fleet.worker(EXPORT_TOKEN="s3cr3t-t0ken-value")
    found = fleet.one("job")
    assert fleet.text(found["id"]) == b"token ******************\n18\n"
    assert fleet.text(found["id"], "stderr") == b"key " + b"*" * len("tajemství-42".encode()) + b"\n"
    stored = b"".join(path.read_bytes() for path in fleet.folder.glob("jobfac.db*"))
    assert b"EXPORT_TOKEN" in stored, "the reference is stored"
    for secret in (b"s3cr3t-t0ken-value", "tajemství-42".encode()):
        assert secret not in stored


def test_a_program_runs_as_another_user(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(
        job={
            "command": script(
                'id -un; echo "$HOME"; cat "$JOBFAC_PAYLOAD_FILE"; echo "{\\"progress\\": 1}" >>"$JOBFAC_REPORT"'
            ),
            "user": "nobody",
            "directory": "/",
        }
    )
    for folder in (fleet.folder, *fleet.folder.parents):
        if (
            Path(tempfile.gettempdir()) in folder.parents
        ):  # another user cannot enter the folder while only this user may
            folder.chmod(0o711)
    fleet.worker()
    found = fleet.one("job", payload="for nobody")
    if os.geteuid() == 0:
        assert fleet.text(found["id"]).decode() == f"nobody\n{NOBODY.pw_dir}\nfor nobody"
        assert (found["state"], found["progress"]) == ("succeeded", 1.0)
    else:
        assert "may not switch to user 'nobody'" in found["reason"]


def test_a_worker_refuses_a_database_without_a_schema(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    empty = fleet.folder / "empty.db"
    sqlite3.connect(empty).close()
    empty.chmod(0o600)
    fleet.factory.environment["JOBFAC_DATABASE_URL"] = f"sqlite:///{empty}"
    said = fleet.factory.run("worker", code=5).stderr
    assert said.startswith("The database has no jobfac schema yet; run `jobfac db upgrade`")
    assert not Path(fleet.folder / "spool").exists()
