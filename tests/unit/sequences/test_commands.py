"""Graphs and simulations of sequences, and references in arguments."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobfac import definitions as d
from jobfac.cli.commands.sequences import app
from jobfac.cli.common import NOT_FOUND, USAGE, Failure
from jobfac.store.sequences.plans import graph
from jobfac.store.sequences.values.references import UnknownReference, fill

JOBS = {job: {"command": ["true"]} for job in ("a", "b", "b.c")}
CLOSE = {
    "steps": [
        {"name": "extract", "jobs": ["a", "b"], "on_failure": {"step": "alert"}, "on_mixed": {"step": "extract"}},
        {"name": "inform", "jobs": ["b"], "proceed": "at_once"},
        {"name": "x.y", "jobs": ["b.c"], "start_if": {"times": {"hours": [3]}, "otherwise": "end"}},
        {"name": "alert", "jobs": ["b"], "on_success": "end_failed"},
    ]
}
LOADED = d.from_data({"jobs": {**JOBS, "close": CLOSE}}).jobs["close"]
assert isinstance(LOADED, d.Sequence)
SEQUENCE = LOADED


def reported(step: str, job: str | None) -> dict[str, Any] | None:
    outputs: dict[str | None, dict[str, Any]] = {
        "a": {"rows": 12, "file": "x.csv", "list": [1, "ä"], "in.side": True},
        "b.c": {"rows": "3"},
    }
    return outputs.get(job)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${steps.extract.a.outputs.rows}", "12"),
        ("<${steps.extract.a.outputs.file}> ${steps.extract.a.outputs.rows}", "<x.csv> 12"),
        ("${steps.extract.a.outputs.list}", '[1, "ä"]'),
        ("${steps.extract.a.outputs.in.side}", "true"),
        ("${steps.x.y.b.c.outputs.rows}", "3"),
        ("${HOME} $steps {steps.x} ${step.a}", "${HOME} $steps {steps.x} ${step.a}"),
        ("", ""),
    ],
)
def test_references_are_replaced(text: str, filled: str) -> None:
    assert fill(text, SEQUENCE, reported) == filled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${steps.extract.b.outputs.rows}", "job 'b' of step 'extract' has not ended before"),
        ("${steps.extract.a.outputs.lines}", "reported only 'rows', 'file', 'list', 'in.side'"),
        ("${steps.extract.a.outputs.}", "must be steps.STEP.JOB.outputs.KEY"),
        ("${steps.extract.a.rows}", "must be steps.STEP.JOB.outputs.KEY"),
        ("${steps.nowhere.a.outputs.rows}", "must be steps.STEP.JOB.outputs.KEY"),
    ],
)
def test_an_unknown_reference_is_named(text: str, words: str) -> None:
    with pytest.raises(UnknownReference, match=re.escape(words)) as caught:
        fill(text, SEQUENCE, reported)
    assert text in str(caught.value)


def test_a_replaced_value_is_not_replaced_again() -> None:
    tricky = {"rows": "${steps.extract.a.outputs.rows}"}
    assert fill("${steps.extract.a.outputs.rows}", SEQUENCE, lambda step, job: tricky) == tricky["rows"]


def test_results_with_the_same_target_share_an_edge() -> None:
    found = {(edge.source, edge.target): edge.label for edge in graph.edges(SEQUENCE)}
    assert found == {
        (0, 1): "success", (0, 3): "failure", (0, 0): "mixed", (1, 2): "at once",
        (2, 3): "success", (2, 5): "failure", (2, 4): "skipped", (3, 5): "success, failure",
    }  # fmt: skip


def test_mermaid_shows_every_step_and_edge() -> None:
    text = graph.mermaid(SEQUENCE)
    assert text.startswith("flowchart TD\n")
    assert '    n0["<b>extract</b><br/>a<br/>b"]\n' in text
    assert "    n0 -->|failure| n3\n" in text
    assert '    n4(["end"])\n' in text
    assert text.count("-->") == text.count("linkStyle") == len(graph.edges(SEQUENCE))


def test_svg_is_well_formed_and_within_its_frame() -> None:
    root = ET.fromstring(graph.svg("a <close> & more", SEQUENCE))
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.findtext("s:title", namespaces=space) == "a <close> & more"
    words = {text.text for text in root.iterfind(".//s:text", space)}
    assert {"extract", "x.y", "b.c", "(at once)", "end failed", "success, failure"} <= words
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    for box in root.findall("s:rect", space)[1:]:
        assert 0 <= int(box.attrib["x"]) < int(box.attrib["x"]) + int(box.attrib["width"]) <= width
        assert 0 <= int(box.attrib["y"]) < int(box.attrib["y"]) + int(box.attrib["height"]) <= height
    for path in root.findall("s:path", space):
        assert all(0 <= int(x) <= width for x in re.findall(r"[HM](\d+)", path.attrib["d"]))


def test_svg_keeps_the_lines_of_a_box_apart() -> None:
    found = re.findall(r"M(\d+),(\d+) H\d+ V(\d+) H(\d+)", graph.svg("close", SEQUENCE))
    ends = [(x, y) for x, start, end, meets in found for x, y in ((x, start), (meets, end))]
    assert len(found) > 3
    assert len(ends) == len(set(ends))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps({"jobs": {**JOBS, "close": CLOSE}}), encoding="utf-8")
    return str(path)


def call(*words: str) -> str:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_simulate_prints_the_visited_steps(file: str) -> None:
    said = call(
        "simulate", "close", "--file", file, "--at", "2027-01-01T03:30:00+00:00",
        "--outcome", "extract.a=failed,succeeded", "--outcome", "x.y.b.c=timed_out",
    )  # fmt: skip
    assert "extract mixed -> extract" in said
    assert "extract (visit 2) success -> inform" in said
    assert "x.y failure -> end_failed" in said
    assert "b.c timed_out" in said
    assert said.endswith("ends failed: step 'x.y' (failure) leads to end_failed\n")


def test_simulate_as_json_is_one_document(file: str) -> None:
    shown = json.loads(call("simulate", "close", "--file", file, "--at", "2027-01-01T12:00:00+00:00", "--json"))
    assert (shown["job"], shown["state"], shown["reason"]) == ("close", "succeeded", None)
    assert [(v["step"], v["number"], v["result"], v["next"]) for v in shown["path"]] == [
        ("extract", 1, "success", "inform"), ("inform", 1, "at_once", "x.y"), ("x.y", 1, "skipped", "end"),
    ]  # fmt: skip
    assert shown["path"][0]["runs"] == [{"job": "a", "state": "succeeded"}, {"job": "b", "state": "succeeded"}]


def test_graph_prints_mermaid_or_writes_svg(file: str, tmp_path: Path) -> None:
    assert call("graph", "close", "--file", file) == graph.mermaid(SEQUENCE)
    picture = tmp_path / "close.svg"
    assert call("graph", "close", "--file", file, "--svg", str(picture)) == ""
    assert picture.read_text(encoding="utf-8") == graph.svg("close", SEQUENCE)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["simulate", "a"], USAGE, "Job 'a' is a program, not a sequence."),
        (["graph", "nobody"], NOT_FOUND, "There is no job 'nobody' in"),
        (
            ["simulate", "close", "--outcome", "extract.q=failed"],
            USAGE,
            "must name a step and its job: one of extract.a",
        ),
        (["simulate", "close", "--outcome", "extract.a=bad"], USAGE, "must give one of denied, failed"),
        (["graph", "close", "--svg", "/no/such/folder/x.svg"], USAGE, "/no/such/folder/x.svg cannot be written"),
    ],
)
def test_errors_are_explained(file: str, words: list[str], code: int, sentence: str) -> None:
    with pytest.raises(Failure, match=re.escape(sentence)) as caught:
        call(*words, "--file", file)
    assert caught.value.code == code


def test_a_step_that_waits_finds_what_it_waits_for_or_does_not(tmp_path: Path) -> None:
    steps = [
        {"name": "prices", "wait": {"file": "/in/a", "timeout": "1h"}, "on_failure": {"step": "alert"}},
        {"name": "rates", "wait": {"http": "http://a.example.org", "timeout": "1h", "otherwise": "succeed"}},
        {"name": "load", "jobs": ["a"], "on_success": "end"},
        {"name": "alert", "jobs": ["b"], "on_success": "end_failed"},
    ]
    file = tmp_path / "jobs.yaml"
    file.write_text(json.dumps({"jobs": {**JOBS, "night": {"steps": steps}}}))

    def walked(*options: str) -> list[str]:
        shown = CliRunner().invoke(app, ["simulate", "night", "--file", str(file), "--json", *options])
        return [f"{one['step']}:{one.get('decision')}:{one['result']}" for one in json.loads(shown.stdout)["path"]]

    assert walked() == ["prices:found:success", "rates:found:success", "load:None:success"]
    assert walked("--outcome", "rates=expired")[1:] == ["rates:expired:success", "load:None:success"]
    assert walked("--outcome", "prices=expired") == ["prices:expired:failure", "alert:None:success"]
    wrong = CliRunner().invoke(app, ["simulate", "night", "--file", str(file), "--outcome", "prices=approved"])
    assert isinstance(wrong.exception, Failure)
    assert "must give one of expired, found, not 'approved'" in str(wrong.exception)


FAN: dict[str, Any] = {
    "parameters": {"regions": {"type": "text", "many": True, "default": ["eu", "us", "asia"]}},
    "steps": [
        {"name": "fan", "jobs": ["load"], "for_each": {"n": [1, 2, 3]}, "on_mixed": {"step": "release"}},
        {"name": "pause", "wait": {"duration": "1h"}},
        {
            "name": "release",
            "approve": {"timeout": "4h"},
            "on_success": {"step": "strict"},
            "on_failure": {"step": "fan"},
        },
        {"name": "strict", "jobs": ["load"], "for_each": {"n": "${parameters.regions}"}, "stop_on_failure": True},
    ],
}


@pytest.fixture
def fan(tmp_path: Path) -> str:
    load = {"command": ["true"], "parameters": {"n": {}}}
    path = tmp_path / "fan.json"
    path.write_text(json.dumps({"jobs": {"load": load, "fan-out": FAN}}), encoding="utf-8")
    return str(path)


def simulated(file: str, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("simulate", "fan-out", "--file", file, "--json", *words))
    return found


def visits(shown: dict[str, Any]) -> list[str]:
    return [f"{one['step']}:{one.get('decision') or one['result']}>{one['next']}" for one in shown["path"]]


def test_simulate_fans_out_waits_and_approves_by_itself(fan: str) -> None:
    shown = simulated(fan)
    assert shown["state"] == "succeeded"
    assert visits(shown) == [
        "fan:success>pause", "pause:elapsed>release", "release:approved>strict", "strict:success>end",
    ]  # fmt: skip
    assert [one["job"] for one in shown["path"][0]["runs"]] == ["load[0]", "load[1]", "load[2]"]
    assert len(shown["path"][3]["runs"]) == 3
    assert len(simulated(fan, "--set", "regions=eu", "--set", "regions=us")["path"][3]["runs"]) == 2


def test_simulate_takes_the_outcome_of_one_value(fan: str) -> None:
    shown = simulated(fan, "--outcome", "fan.load=failed", "--outcome", "fan.load[1]=succeeded")
    assert visits(shown)[:2] == ["fan:mixed>release", "release:approved>strict"]
    assert [one["state"] for one in shown["path"][0]["runs"]] == ["failed", "succeeded", "failed"]


def test_simulate_starts_nothing_after_a_failure_that_stops_the_others(fan: str) -> None:
    shown = simulated(fan, "--outcome", "strict.load[1]=failed")
    assert [(one["job"], one["state"]) for one in shown["path"][3]["runs"]] == [
        ("load[0]", "succeeded"), ("load[1]", "failed"),
    ]  # fmt: skip
    assert (visits(shown)[3], shown["state"]) == ("strict:mixed>end_failed", "failed")


def test_simulate_takes_decisions_visit_by_visit(fan: str) -> None:
    shown = simulated(fan, "--outcome", "release=rejected,expired,approved")
    decided = [one["decision"] for one in shown["path"] if one["step"] == "release"]
    assert (decided, shown["state"]) == (["rejected", "expired", "approved"], "succeeded")
    said = call("simulate", "fan-out", "--file", fan, "--outcome", "release=rejected,approved")
    assert "├── release failure -> fan\n│   └── rejected\n├── fan (visit 2) success -> pause\n" in said


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        ("release=perhaps", "--outcome release=perhaps must give one of approved, expired, rejected, not 'perhaps'."),
        ("pause=failed", "must name a step and its job: one of fan.load, strict.load, release."),
        ("fan.load[x]=failed", "must name a step and its job"),
    ],
)
def test_a_wrong_outcome_of_a_newer_step_is_explained(fan: str, outcome: str, sentence: str) -> None:
    with pytest.raises(Failure, match=re.escape(sentence)):
        call("simulate", "fan-out", "--file", fan, "--outcome", outcome)
