"""`jobfac report` on real runs of a worker, in every output format."""

import csv
import io
import os
import re
import time

from tests.support.factory import Factory, wait_for


def test_a_report_in_every_format(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply({"good": {"command": ["true"], "category": "etl"}, "bad": {"command": ["false"]}})
    factory.worker()
    factory.run("start", "good", "--wait")
    factory.run("start", "bad", "--wait", code=1)
    every = {one["report"]: one for one in factory.json("report", "all", "--since", "2d")}
    assert list(every) == ["summary", "failures", "slowest", "late", "usage", "trend", "utilisation"]
    assert {row["category"]: row["runs"] for row in every["summary"]["rows"]} == {"etl": 1, None: 1}
    assert every["summary"]["total"]["failed"] == 1
    rows = list(csv.DictReader(io.StringIO(factory.run("report", "failures", "--csv").stdout)))
    assert [(row["job"], row["state"], row["reason"]) for row in rows] == [("bad", "failed", "exit code 1")]
    table = factory.run("report", "trend", "--job", "good").stdout.splitlines()
    assert re.match(r"Jobs by day  \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d, UTC, job good", table[0])
    assert re.match(r"good +\d{4}-\d\d-\d\d +1 +0 +100.0 % ", table[2])
    assert factory.run("report", "--html", "out.html").stderr == "The report was written to out.html.\n"
    assert ">bad<" in (factory.folder / "out.html").read_text(encoding="utf-8")
    assert factory.json("report", "--since", "0001-01-01")["since"] == "1970-01-01"
    assert factory.json("report", "--until", "0001-01-01")["until"] == "1970-01-01"
    assert factory.json("report", "--since", "2020-01-02T12:00:00Z")["since"] == "2020-01-02"
    assert factory.run("report", "--job", "nobody", code=3).stderr.startswith("There is no job 'nobody'")


def test_a_worker_removes_the_old_files_of_a_timestamped_output(sqlite_factory: Factory) -> None:
    output = {"stdout": {"timestamped": "out-*.log"}}
    job = {"command": ["echo", "new"], "output": output, "retention": "30d", "directory": str(sqlite_factory.folder)}
    sqlite_factory.apply({"a": job})
    names = ("out-20270101T000000Z-1.log", "out-20270101T000000Z.log")
    old, other = (sqlite_factory.folder / name for name in names)
    for path in (old, other):
        path.touch()
        os.utime(path, (time.time() - 31 * 86400,) * 2)
    sqlite_factory.worker()
    sqlite_factory.run("start", "a", "--wait")
    wait_for(lambda: not old.exists())
    assert other.exists()
    assert len(list(sqlite_factory.folder.glob("out-*"))) == 2
