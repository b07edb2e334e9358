"""Silence and unusual length, with real programs."""

from tests.support.factory import Factory, wait_for

LOUD = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.1; done"
REPORTS = "for i in 1 2 3 4 5 6 7 8; do echo '{\"progress\": 0.'$i'}' >>\"$JOBFAC_REPORT\"; sleep 0.1; done"
TO_FILE = {"output": {"stdout": {"append": "out.log"}, "stderr": "none"}}


def test_a_program_that_writes_nothing_is_stopped(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    watched = {"silent_timeout": "500ms", "grace": "1s"}
    factory.apply(
        {
            "silent": {"command": ["sleep", "600"], **watched},
            "stuck": {"command": ["sh", "-c", "echo begun; sleep 600"], **watched},
            "loud": {"command": ["sh", "-c", LOUD], **watched},
            "reporting": {"command": ["sh", "-c", REPORTS], **watched},
            "to-file": {"command": ["sh", "-c", LOUD], "directory": str(factory.folder), **TO_FILE, **watched},
            "moved": {
                "command": ["sh", "-c", f"mv moved.log moved.log.1; {LOUD}"],
                "directory": str(factory.folder),
                "output": {"stdout": {"append": "moved.log"}},
                **watched,
            },
        }
    )
    factory.worker(slots=8)
    ids = {
        job: factory.json("start", job)["id"] for job in ("silent", "stuck", "loud", "reporting", "to-file", "moved")
    }
    ended = {job: factory.wait(run_id) for job, run_id in ids.items()}
    for job in ("silent", "stuck"):
        assert (ended[job]["state"], ended[job]["reason"]) == (
            "timed_out", "wrote nothing for its silent_timeout of 500ms",
        )  # fmt: skip
    assert [ended[job]["state"] for job in ("loud", "reporting", "to-file", "moved")] == ["succeeded"] * 4


def test_a_run_that_takes_longer_than_usual_is_reported(sqlite_factory: Factory) -> None:
    factory = sqlite_factory
    factory.apply({"a": {"command": ["sleep"], "arguments": ["0"], "warn_after": {"usual": 2, "least": "300ms"}}})
    factory.worker()
    factory.json("start", "a", "--argument", "0.2", "--wait")
    run_id = factory.json("start", "a", "--argument", "600")["id"]

    def told() -> list[str]:
        return [one["detail"] for one in factory.show(run_id)["events"] if one["event"] == "running_long"]

    (why,) = wait_for(told, "it is reported")
    assert why.startswith("still running after ")
    assert "; it usually takes " in why
    factory.run("stop", str(run_id), "--now")
