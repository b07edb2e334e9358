"""All errors are reported together, in sentences that name the place and the remedy."""

from pathlib import Path
from typing import Any

import pytest

from jobfac.definitions import DefinitionError, canonical, from_canonical, from_data, load, loads
from jobfac.definitions.document import read_document

SAMPLES = Path(__file__).parent / "samples"
WRONG: dict[str, list[dict[str, Any]]] = read_document((SAMPLES / "wrong.yaml").read_text(encoding="utf-8")).value


def sentences(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        loads(text)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("case", WRONG["programs"] + WRONG["sequences"], ids=lambda case: case["wrong"])
def test_invalid_jobs_are_explained(case: dict[str, str]) -> None:
    text = f"jobs:\n  j: {case['wrong']}\n  p: {{command: x}}\n"
    assert sentences(text) == [f"line 2: job 'j': {case['says']}"]


@pytest.mark.parametrize("case", WRONG["schedules"], ids=lambda case: case["wrong"])
def test_invalid_schedules_are_explained(case: dict[str, str]) -> None:
    text = f"jobs:\n  j:\n    command: x\n    schedules:\n      - {case['wrong']}\n"
    assert sentences(text) == [f"line 5: job 'j': {case['says']}"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must be a mapping with the key jobs, not nothing"),
        ("jobs:", "line 1: jobs must be a mapping, not nothing"),
        ("job: {}", "line 1: unknown key 'job'; did you mean 'jobs'?"),
        ("jobs: {}\ndefault: {}", "line 2: unknown key 'default'; did you mean 'defaults'?"),
        ("{}", "must have the key jobs"),
        (
            "jobs: {a b: {command: x}}",
            "line 1: job 'a b': its id must be made of 1 to 128 letters, digits, '.', '_' or '-', not 'a b'",
        ),
        (
            "jobs:\n  a: {command: x}\n  A: {command: x}",
            "line 3: job 'A': its id differs from 'a' only in case; rename one of them",
        ),
        (
            "jobs:\n  a: {command: x}\n  a: {command: x}",
            "line 3: the key 'a' was given before, in line 2; remove one of them",
        ),
        (
            "jobs:\n  a:\n    command: x\n    command: y",
            "line 4: the key 'command' was given before, in line 3; remove one of them",
        ),
        (
            "defaults:\n  fin:\n    notfy: []",
            "line 3: defaults.fin: unknown key 'notfy'; did you mean 'notify'?",
        ),
        (
            "jobs:\n  a: {command: x, concurrency: {key: k}}\n  b:\n    command: x\n"
            "    concurrency: {key: k,\n      limit: 2}",
            "line 6: job 'b': concurrency.limit is 2 for the key 'k', but 1 in 'a'; use one",
        ),
        ("jobs: [", "line 1: not valid YAML: while parsing a flow node, expected the node content, but found "),
        (
            "jobs:\n\ta: 1",
            "line 2: not valid YAML: while scanning for the next token, found character '\\t' that cannot start any "
            "token; indent with spaces",
        ),
        (
            "jobs:\n  a: {cron: @daily}",
            "line 2: not valid YAML: while scanning for the next token, found character '@' that cannot start any "
            "token; put the text in quotes",
        ),
        ("a: 1\nb: \x01", "line 2: not valid YAML: the character U+0001 is not allowed"),
        ("[" * 3000, "not valid YAML: it is nested too deeply"),
        ('a: "\\U00110000"', "not valid YAML: an escape names no character"),
        ('a: "\\UFFFFFFFF"', "not valid YAML: an escape names no character"),
        ("a: 1\n---\nb: 1", "line 2: not valid YAML: expected a single document in the stream, but found another "),
        ("a: !run b", "line 1: the tag !run cannot be used here; remove it"),
        ("a: &a\n  - *a", "line 1: an alias must not be inside the value that it refers to"),
        ("a:\n  ? [1]\n  : 2", "line 2: a key must be text"),
        ("a: {<<: 3}", "line 1: << can only merge mappings"),
    ],
)
def test_invalid_files_are_explained(text: str, sentence: str) -> None:
    (actual,) = sentences(text)
    assert actual == sentence or (sentence.endswith(" ") and actual.startswith(sentence))


def test_all_errors_are_reported_together_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "jobs:\n"
        "  a:\n"
        "    comand: x\n"
        "    retry:\n"
        "      attempts: 0\n"
        "      backof: 2\n"
        "  b:\n"
        "    command: x\n"
        "    environment:\n"
        "      T: {secret: TOKEN}\n"
        "  s:\n"
        "    steps:\n"
        "      - name: one\n"
        "        jobs: [a, c]\n"
    )
    with pytest.raises(DefinitionError) as caught:
        load(file)
    assert str(caught.value).replace(str(file), "F").splitlines() == [
        "F:5: job 'a': retry.attempts must be a whole number from 1 to 1000, not 0",
        "F:6: job 'a': unknown key 'backof' in retry; did you mean 'backoff'?",
        "F:3: job 'a': unknown key 'comand'; did you mean 'command'?",
        "F:10: job 'b': environment.T.secret must be env:NAME, file:/path or keyring:service/user",
        "F:14: job 's': steps[0].jobs names the unknown job 'c'",
    ]
    first = caught.value.problems[0]
    assert (first.file, first.line, first.job, first.field) == (str(file), 5, "a", "retry.attempts")


def test_a_line_inside_of_a_merge_is_found() -> None:
    text = "jobs:\n  a: &a {command: x}\n  b:\n    <<: *a\n    retry: 3\n"
    assert sentences(text) == ["line 5: job 'b': retry must be a mapping, not 3"]
    text = "jobs:\n  b:\n    <<: {command: x,\n      priority: high}\n"
    assert sentences(text) == ["line 4: job 'b': priority must be a whole number from -1000 to 1000, not 'high'"]


def test_a_job_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("jobs:\n  j: {command: x}\n")
    two.write_text("jobs:\n  k: {command: x}\n  j: {command: y}\n")
    with pytest.raises(DefinitionError) as caught:
        load(one, two)
    assert str(caught.value) == f"{two}:3: job 'j': is defined in {one}:2 too; remove one of them"


def test_an_unreadable_file_hides_no_other_problem_and_invents_none(tmp_path: Path) -> None:
    missing, latin, steps = tmp_path / "missing.yaml", tmp_path / "latin.yaml", tmp_path / "steps.yaml"
    latin.write_bytes(b"# \xe9")
    steps.write_text("jobs:\n  s: {steps: [{name: a, jobs: defined-in-missing}]}\n  p: {command: x, pool: ''}\n")
    with pytest.raises(DefinitionError) as caught:
        load(missing, latin, steps)
    assert str(caught.value).splitlines() == [
        f"{missing}: cannot be read: No such file or directory",
        f"{latin}: is not UTF-8 text (byte 2); save it as UTF-8",
        f"{steps}:3: job 'p': pool must be made of 1 to 128 letters, digits, '.', '_' or '-', not ''",
    ]


def test_a_cycle_through_stored_sequences_is_refused() -> None:
    stored = {"b": {"steps": [{"name": "x", "jobs": ["a"]}]}}
    with pytest.raises(DefinitionError, match="steps run in a circle: a -> b -> a; a sequence cannot contain itself"):
        from_data({"jobs": {"a": {"steps": [{"name": "x", "jobs": ["b"]}]}}}, known=stored)


KEYED: dict[str, Any] = {"concurrency": {"limit": 1, "key": "k"}}
HOLDER: dict[str, Any] = {**KEYED, "steps": [{"name": "one", "jobs": ["middle"]}]}
INSIDE: dict[str, Any] = {
    "middle": {"steps": [{"name": "one", "jobs": ["free", "child"]}]},
    "free": {"command": "true"},
    "child": {"command": "true", **KEYED},
}


@pytest.mark.parametrize("proceed", ["when_any", "at_once"])
def test_a_sequence_waits_at_its_end_for_every_job(proceed: str) -> None:
    step = {"name": "one", "jobs": ["middle"], "proceed": proceed}
    with pytest.raises(DefinitionError, match="it would wait for ever, since the sequence has the only place of 'k'"):
        from_data({"jobs": {"holder": {**HOLDER, "steps": [step]}, **INSIDE}})


def test_no_job_waits_for_the_place_of_a_sequence_that_waits_for_it() -> None:
    sentence = "concurrency.key is also that of the job 'child' inside: it would wait for ever, since the sequence"
    with pytest.raises(DefinitionError, match=f"job 'holder': {sentence} has the only place of 'k'; use another key"):
        from_data({"jobs": {"holder": HOLDER, **INSIDE}})
    known = {job: canonical(one) for job, one in from_data({"jobs": {**INSIDE, "child": INSIDE["free"]}}).jobs.items()}
    known["holder"] = canonical(from_data({"jobs": {"holder": HOLDER}}, known).jobs["holder"])
    with pytest.raises(DefinitionError, match=r"job 'child': .* that of the sequence 'holder' around it"):
        from_data({"jobs": {"child": INSIDE["child"]}}, known)


@pytest.mark.parametrize(
    "changed",
    [
        {"holder": {**HOLDER, "concurrency": {"limit": 1, "key": "other"}}},
        {job: {**body, "concurrency": {"limit": 2, "key": "k"}} for job, body in
         (("holder", HOLDER), ("child", INSIDE["child"]))},
    ],
)  # fmt: skip
def test_a_job_may_wait_for_a_place_that_becomes_free(changed: dict[str, Any]) -> None:
    from_data({"jobs": {"holder": HOLDER, **INSIDE, **changed}})


PASSING: dict[str, Any] = {"steps": [{"name": "one", "jobs": ["load"], "arguments": {"load": ["--full"]}}]}
DAILY = {"times": {"at": "06:00"}, "payloads": {"load": "x"}}


def test_what_is_given_to_a_sequence_inside_would_be_lost() -> None:
    """A program inside was split into a sequence: its arguments were dropped without a word."""
    program, inside = {"command": "true"}, {"steps": [{"name": "one", "jobs": ["free"]}]}
    split = {"load": inside, "free": program}
    wrong = r"job 'outer': steps.0..arguments.load is for a sequence, which passes it to none of its jobs"
    with pytest.raises(DefinitionError, match=wrong):
        from_data({"jobs": {"outer": PASSING, **split}})
    scheduled = {"steps": [{"name": "one", "jobs": ["load"]}], "schedules": [DAILY]}
    with pytest.raises(DefinitionError, match=r"job 'outer': schedules.0..payloads.load is for a sequence"):
        from_data({"jobs": {"outer": scheduled, **split}})
    before = from_data({"jobs": {"outer": PASSING, "load": program}}).jobs
    known = {job: canonical(one) for job, one in before.items()}
    with pytest.raises(DefinitionError, match="job 'load': steps would not get what a step of 'outer' gives it"):
        from_data({"jobs": split}, known)
    from_data({"jobs": split}, {**known, "load": inside})  # an earlier version has stored both


def test_an_id_that_differs_only_in_case_from_a_stored_one_is_refused() -> None:
    with pytest.raises(DefinitionError, match="its id differs from 'Orders' only in case"):
        from_data({"jobs": {"orders": {"command": "x"}}}, known={"Orders": {"command": ["x"]}})


def test_steps_without_a_way_to_the_end_are_named() -> None:
    back = "{on_success: {step: b}, on_failure: {step: b}, on_mixed: {step: b}, jobs: p, name: %s}"
    text = f"jobs: {{p: {{command: x}}, s: {{steps: [{{name: a, jobs: p}}, {back % 'b'}, {back % 'c'}]}}}}"
    assert sentences(text) == ["line 1: job 's': steps 'b' lead to no end; let one of them go to end or end_failed"]


def test_schedules_of_the_same_name_are_refused() -> None:
    text = "jobs:\n  j: {command: x, schedules: [{name: '2', cron: '@daily'}, {cron: '@daily'}]}"
    assert sentences(text) == ["line 2: job 'j': schedules[1] has the name '2' of schedules[0]; rename it"]


@pytest.mark.parametrize("sign", ["\n", "\t", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
def test_a_name_is_one_line_without_control_characters(sign: str) -> None:
    name = f"a{sign}b"
    says = f"must be one line of text without control characters, but has {sign!r} at position 2"
    for body, field in (
        ({"name": name}, "name"),
        ({"category": name}, "category"),
        ({"concurrency": {"key": name}}, "concurrency.key"),
    ):
        with pytest.raises(DefinitionError) as caught:
            from_data({"jobs": {"j": {"command": ["x"], **body}}})
        assert str(caught.value) == f"job 'j': {field} {says}"
        assert from_canonical("j", {"command": ["x"], **body}), "an earlier version may have stored it"
    with pytest.raises(DefinitionError) as caught:
        from_data({"defaults": {name: {"notify": []}}})
    assert str(caught.value) == f"defaults: the name of a category {says}"


@pytest.mark.parametrize("text", ["naïve 😀 岸", "مرحبا", "a\u200db", "a\u00adb"])
def test_a_name_may_be_of_any_script(text: str) -> None:
    assert from_data({"jobs": {"j": {"command": ["x"], "name": text, "category": text}}}).jobs["j"].name == text


def test_an_invalid_stored_definition_names_its_job() -> None:
    with pytest.raises(DefinitionError, match=r"^job 'j': priority must be a whole number"):
        from_canonical("j", {"command": ["x"], "priority": "high"})


def test_a_secret_that_is_no_reference_is_not_shown() -> None:
    said = sentences(
        "jobs:\n  j: {sql: {text: x, connection: 'mssql+pyodbc://sa:w0rd@h/d'}}\n"
        "  k: {command: x, environment: {T: {secret: w0rd}}}\n  l: {sql: 'mssql+pyodbc://sa:w0rd@h/d'}\n"
    )
    assert said == [
        """line 2: job 'j': sql.connection must be a reference to a secret, such as {secret: "env:NAME"}""",
        "line 3: job 'k': environment.T.secret must be env:NAME, file:/path or keyring:service/user",
        "line 4: job 'l': sql must be a mapping with connection, and with text or file",
    ]
