"""Destinations of output: no output is lost or changed, and none fills the disk."""

import re
import sys
import time

import pytest

from tests.roles.guide.shell import shell
from tests.support.factory import wait_for
from tests.support.fleet import Fleet

PYTHON = sys.executable


def python(text: str) -> list[str]:
    return [PYTHON, "-S", "-c", text]


def test_each_stream_goes_to_its_destination(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    both = ["sh", "-c", 'echo "out $JOBFAC_RUN_ID"; echo err >&2']
    there = {"directory": str(fleet.folder), "command": both}
    fleet.define(
        stored={"command": both, "output": {"stderr": "none"}},
        over={**there, "output": {"stdout": {"overwrite": "logs/over.log"}, "stderr": {"append": "logs/all.err"}}},
        stamped={
            **there,
            "output": {"stdout": {"timestamped": "logs/run-*.log"}, "stderr": {"append": "logs/all.err"}},
        },
    )
    fleet.worker()
    stored = fleet.one("stored")["id"]
    assert (fleet.text(stored), fleet.text(stored, "stderr")) == (f"out {stored}\n".encode(), b"")
    ids = [fleet.one(job)["id"] for job in ("over", "over", "stamped", "stamped")]
    logs = fleet.folder / "logs"
    assert (logs / "over.log").read_text() == f"out {ids[1]}\n"
    assert (logs / "all.err").read_text() == "err\n" * 4
    stamped = sorted(path.name for path in logs.glob("run-*.log"))
    assert [bool(re.fullmatch(rf"run-\d{{8}}T\d{{6}}Z-{run_id}\.log", name)) for run_id, name in zip(ids[2:], stamped, strict=True)] == [True, True]  # fmt: skip  # noqa: E501
    assert fleet.attempts(ids[0])[0]["stdout_path"] == str(logs / "over.log")
    errors = fleet.factory.run("logs", str(ids[0])).stderr
    assert f"The stdout of attempt 1 goes to {logs / 'over.log'} on w1." in errors


def test_an_appended_file_is_rotated(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    path = fleet.folder / "app.log"
    fleet.define(
        job={
            "command": ["seq", "1", "500"],
            "output": {"stdout": {"append": str(path)}, "rotate": {"size": "1KiB", "keep": 2}},
        }
    )
    fleet.worker()
    for _ in range(4):
        fleet.one("job")
    assert sorted(found.name for found in fleet.folder.glob("app.log*")) == ["app.log", "app.log.1", "app.log.2"]


def test_any_bytes_are_stored_unchanged(fleet: Fleet) -> None:
    data = bytes(range(256)) * 40 + b"no newline at the end \xff\xfe\x00"
    fleet.define(job={"command": python(f"import os; os.write(1, {data!r}); os.write(2, b'\\n  \\n ')")})
    fleet.worker()
    found = fleet.one("job")["id"]
    assert (fleet.text(found), fleet.text(found, "stderr")) == (data, b"\n  \n ")


def test_beyond_the_limit_head_and_tail_are_kept_and_the_cut_is_marked(fleet: Fleet) -> None:
    fleet.define(job={"command": ["seq", "1", "200000"], "output": {"limit": "10KiB"}})
    fleet.worker()
    found = fleet.one("job")["id"]
    whole = "".join(f"{number}\n" for number in range(1, 200001))
    text = fleet.factory.logs(found)
    head, cut, tail = re.split(r"\n\[\.\.\. ([\d,]+) bytes cut \.\.\.\]\n", text)
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + int(cut.replace(",", "")) + len(tail) == len(whole)
    assert 10000 < len(head) + len(tail) < 11000


def test_one_line_of_50_mb_is_stored(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    write = "import sys\nfor _ in range(50): sys.stdout.write('x' * 1_000_000)\nprint('end')"
    fleet.define(job={"command": python(write)}, whole={"command": python(write), "output": {"limit": "60MiB"}})
    worker = fleet.worker()
    found = fleet.one("job")
    text = fleet.text(found["id"])
    assert (found["state"], text[:10], text[-5:], len(text)) == ("succeeded", b"x" * 10, b"xend\n", 1024 * 1024)
    whole = fleet.one("whole")
    assert fleet.text(whole["id"]) == b"x" * 50_000_000 + b"end\n"
    assert worker.poll() is None


@pytest.mark.alone
def test_following_shows_lines_within_a_second_and_ends_with_the_run(fleet: Fleet) -> None:
    gate = fleet.folder / "gate"
    fleet.define(
        job={"command": ["sh", "-c", f"echo first; until [ -e {gate} ]; do sleep 0.02; done; echo second; exit 3"]}
    )
    fleet.worker()
    (run_id,) = fleet.start("job")
    fleet.wait(run_id, "running")
    with shell(fleet.folder) as bash, bash.begin(fleet.factory, "logs", str(run_id), "-f") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"first\n"
        gate.touch()
        begin = time.monotonic()
        assert follower.stdout.readline() == b"second\n"
        assert time.monotonic() - begin < 1.0
        assert (follower.stdout.read(), follower.wait(10)) == (b"", 0)


def test_each_attempt_keeps_its_own_output(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    fleet.define(
        job={"command": ["sh", "-c", 'echo "try $JOBFAC_ATTEMPT"; exit 1'], "retry": {"attempts": 2, "delay": "0s"}}
    )
    fleet.worker()
    found = fleet.one("job")["id"]
    assert [fleet.text(found, attempt=number) for number in (1, 2)] == [b"try 1\n", b"try 2\n"]
    assert fleet.factory.logs(found, "--attempt", "1") == "try 1\n"
    assert fleet.factory.logs(found) == "try 2\n"


def test_a_flood_neither_blocks_the_program_nor_fills_the_disk(sqlite_fleet: Fleet) -> None:
    fleet = sqlite_fleet
    flood = "for i in $(seq 30); do head -c 10000000 /dev/zero; sleep 0.02; done"
    fleet.define(job={"command": ["sh", "-c", flood], "output": {"limit": "64KiB"}})
    worker = fleet.worker()
    (run_id,) = fleet.start("job")
    used = [0]

    def ended() -> bool:
        used.append(sum(path.stat().st_blocks * 512 for path in (fleet.folder / "spool").glob("*/*/*.stdout")))
        return bool(fleet.get(run_id)["state"] == "succeeded")

    wait_for(ended, "the flood is over")
    # A chunk that was stored while it reached into the tail stays whole.
    assert 65536 <= len(fleet.text(run_id)) < 65536 + 32768
    assert max(used) < 250_000_000
    assert worker.poll() is None
