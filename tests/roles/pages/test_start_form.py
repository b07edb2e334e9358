"""The form that starts a job, by HTTP: its fields, what it refuses, and what it starts."""

import html
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from jobfac.database.tables import run, run_event
from jobfac.errors import IN_DOUBT, InDoubt, Unreachable
from jobfac.operations import starting
from jobfac.store import sequences
from jobfac.store.runs import reading
from tests.roles.pages.stage import Browser, Stage
from tests.support.api_stage import Served
from tests.support.database import define, start


def test_a_job_is_started_with_a_form(operator: Browser, stage: Stage) -> None:
    form = operator.get("/jobs/export/start")
    assert ">\n--full</textarea>" in form
    answer = operator.post("/jobs/export/start", "/jobs/export/start", arguments="--full", priority="high")
    assert (answer.status_code, "must be a whole number" in answer.text) == (422, True)
    assert 'value="high"' in answer.text
    answer = operator.post("/jobs/export/start", "/jobs/export/start", arguments="a", delay="soon")
    assert "The delay must be" in answer.text
    text = operator.act("/jobs/export/start", arguments="--part\r\n7", payload="x", priority="5", delay="10m")
    assert "of export is scheduled" in text
    assert "--part\n7" in text
    assert "jobfac start export --argument --part --argument 7 --payload x --priority 5 --in 600s" in text
    assert "--in 1296000.5s" in operator.act("/jobs/export/start", arguments="a", delay="15d 500ms")
    text = operator.act("/jobs/export/start", arguments="")  # no command starts it without any
    assert ("of export is queued" in text, "jobfac start export" in text) == (True, False)


def test_a_run_is_started_again_with_changes(operator: Browser, stage: Stage) -> None:
    assert f"/jobs/export/start?like={stage.succeeded}" in operator.get(f"/runs/{stage.succeeded}")
    form = operator.get(f"/jobs/export/start?like={stage.succeeded}")
    assert "{&#34;day&#34;: 1}</textarea>" in form
    assert operator.client.get("/jobs/export/start?like=999999").status_code == 404


def test_a_value_of_a_parameter_that_is_gone_since_is_refused(place: Served, operator: Browser) -> None:
    """The run was started without it."""
    place.define("load", command=["true"], parameters={"day": {"type": "text", "default": "today"}})
    answer = operator.post("/jobs/load/start", "/jobs/load/start", **{"parameter.date": "2027-01-31"})
    assert (answer.status_code, "unknown name" in answer.text) == (422, True)
    assert operator.post("/jobs/load/start", "/jobs/load/start", **{"parameter.date": " "}).status_code == 303


def test_a_run_with_a_boolean_is_started_again_with_its_value(place: Served, operator: Browser) -> None:
    """The field showed the default, and so the new run had it."""
    parameters = {"full": {"type": "boolean", "default": False}, "less": {"type": "boolean", "default": True}}
    place.define("load", command=["echo", "${parameters.full}"], parameters=parameters)
    run_id = place.start("load", parameters={"full": True, "less": False})
    form = operator.get(f"/jobs/load/start?like={run_id}")
    assert re.findall(r"<option selected>(\w+)", form) == ["true", "false"]
    assert "default: false" in form


def sent(form: str, **changes: str) -> dict[str, str]:
    """Return what a browser sends for a form that it has opened."""
    areas = re.findall(r'<textarea name="([^"]+)"[^>]*>([^<]*)<', form)
    found = dict(re.findall(r'<input[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', form))
    found |= {name: value.removeprefix("\n") for name, value in areas}
    return {name: re.sub("\r?\n", "\r\n", html.unescape(value)) for name, value in found.items()} | changes


def test_a_form_that_nobody_changes_starts_what_it_shows(place: Served, operator: Browser) -> None:
    """A browser sends other line ends, and the fields have no place for all that a value may be."""
    parameters: dict[str, Any] = {name: {"type": "text", "default": "d"} for name in ("text", "long")}
    parameters["several"] = {"type": "text", "many": True, "default": ["d"]}
    place.define("load", command=["true"], parameters=parameters, arguments=["--prefix", ""])
    given: dict[str, Any] = {"text": "  lead ", "long": "x\ny", "several": ["a, b", "c"]}
    arguments, payload = ["SELECT 1\nFROM x", "two"], "\nfirst line empty\r\n"
    first = place.start("load", parameters=given, arguments=arguments, payload=payload)

    def started(path: str, **changes: str) -> tuple[Any, ...]:
        text = operator.act("/jobs/load/start", **sent(operator.get(path), **changes))
        (run_id,) = re.findall(r"Run (\d+) of load is", text)
        run = place.admin.get(f"/v1/runs/{run_id}").json()
        return run["arguments"], run["payload"], run["parameters"]

    assert started(f"/jobs/load/start?like={first}") == (arguments, payload, given)
    changed = started(f"/jobs/load/start?like={first}", **{"parameter.text": "other"})
    assert changed == (arguments, payload, {**given, "text": "other"})
    usual = {"text": "d", "long": "d", "several": ["d"]}
    assert started("/jobs/load/start") == (None, None, usual)
    assert started("/jobs/load/start", arguments="--prefix\r\n\r\nlast") == (["--prefix", "", "last"], None, usual)
    fields = sent(operator.get(f"/jobs/load/start?like={first}"), arguments="SELECT 2\r\nFROM x\r\ntwo")
    refused = operator.post("/jobs/load/start", **fields)
    assert (refused.status_code, "One of the arguments has several lines" in refused.text) == (422, True)


def test_a_form_that_stood_open_over_a_change_is_shown_again(place: Served, operator: Browser) -> None:
    place.define("load", command=["true"], arguments=["old-server"])
    form = operator.get("/jobs/load/start")
    place.define("load", command=["true"], arguments=["new-server"])
    answer = operator.post("/jobs/load/start", "/jobs/load/start", **sent(form))
    assert answer.status_code == 422
    assert "The definition of load has changed since this form was opened." in answer.text
    fields = sent(answer.text)
    assert fields["arguments"] == "new-server"
    assert operator.post("/jobs/load/start", "/jobs/load/start", **fields).status_code == 303


def test_a_value_that_is_not_given_stays_so_and_an_empty_one_too(place: Served, operator: Browser) -> None:
    parameters = {"customer": {"type": "text"}, "region": {"type": "text", "default": "ALL"}}
    place.define("load", command=["true"], parameters=parameters | {"token": {"type": "text", "sensitive": True}})
    first = place.start("load", parameters={"region": "", "token": "secret"})
    form = operator.get(f"/jobs/load/start?like={first}")
    assert "not copied: type it again" in form
    text = operator.act("/jobs/load/start", **sent(form))
    (run_id,) = re.findall(r"Run (\d+) of load is", text)
    found = place.admin.get(f"/v1/runs/{run_id}").json()["parameters"]
    assert found == {"customer": None, "region": "", "token": None}


def test_a_sequence_is_started_again_with_what_its_jobs_were_given(place: Served, operator: Browser) -> None:
    define(place.db, inner={}, outer={"steps": [{"name": "one", "jobs": ["inner"]}]})
    given = {"arguments": {"inner": ["only", "2027-01-31"]}, "payloads": {"inner": "p"}}
    first = start(place.db, "outer", overrides=given)
    form = operator.get(f"/jobs/outer/start?like={first}")
    assert f"As in run {first}, the start gives arguments or a payload to inner." in form
    text = operator.act("/jobs/outer/start", **sent(form))
    command = """jobfac start outer --arguments-of 'inner=["only", "2027-01-31"]' --payload-of inner=p"""
    assert command in html.unescape(text)
    (run_id,) = re.findall(r"Run (\d+) of outer is", text)
    assert place.db.query(reading.given_inside, int(run_id)) == given


def test_a_notice_with_many_letters_of_another_script_is_cut(place: Served, operator: Browser) -> None:
    """A proxy answered 502 although the run was started, since the head of the answer was too long."""
    place.define("load", command=["true"])
    for letters in ("\u0416" * 5000, "\U0001f600\n" * 5000, '"' * 5000):
        answer = operator.post("/jobs/load/start", arguments=letters)
        assert answer.status_code == 303
        assert sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) < 3500
        assert "of load is queued" in operator.get(answer.headers["location"])


def test_a_sequence_is_started_at_a_step(place: Served, operator: Browser, stage: Stage) -> None:
    link = f"/jobs/month-end/start?like={stage.sequence}&from_step=extract"
    assert link.replace("&", "&amp;") in operator.get(f"/runs/{stage.sequence}")
    form = operator.get("/jobs/month-end/start?from_step=close")
    assert '<option value="close" selected>close</option>' in form
    text = operator.act("/jobs/month-end/start", from_step="close")
    assert "of month-end is queued" in text
    assert "jobfac start month-end --from-step close" in text
    place.db.transact(sequences.begin, "w1")
    run_id = max(int(one) for one in re.findall(r"Run (\d+) of month-end", text))
    steps = re.findall(r'data-row="step-\d+"><td class="job">(\w+)', operator.get(f"/runs/{run_id}"))
    assert steps == ["close"]
    answer = operator.post("/jobs/month-end/start", "/jobs/month-end/start", from_step="clse")
    assert (answer.status_code, "did you mean" in answer.text) == (422, True)


def test_a_job_with_parameters_has_a_field_for_each(place: Served, operator: Browser) -> None:
    parameters = {
        "region": {"type": "choice", "choices": ["eu", "us"], "required": True, "description": "Where"},
        "limit": {"type": "integer", "minimum": 1, "default": 10},
        "token": {"type": "text", "sensitive": True},
    }
    place.define("load", command=["echo", "${parameters.region}"], parameters=parameters)
    form = operator.get("/jobs/load/start")
    assert '<select name="parameter.region" required>' in form
    given = {"parameter.region": "eu", "parameter.limit": "none", "parameter.token": "s3cret"}
    answer = operator.post("/jobs/load/start", "/jobs/load/start", **given)
    assert (answer.status_code, "must be a whole number" in answer.text) == (422, True)
    assert "s3cret" not in answer.text
    text = operator.act("/jobs/load/start", "/jobs/load/start", **{**given, "parameter.limit": "5"})
    assert "jobfac start load --set region=eu --set limit=5" in text
    assert "token=..." in text
    assert "<dt>limit</dt><dd><code>5</code>" in text


@pytest.mark.parametrize(
    ("error", "then"), [(InDoubt, IN_DOUBT), (Unreachable, "is not done, or not all of it; go back and try again")]
)
def test_a_page_sends_no_form_again_that_the_database_has_not_answered(
    operator: Browser,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Unreachable],
    then: str,
) -> None:
    """The browser would ask for the address without the form, and most forms have none of their own."""

    def start(*_: object) -> None:
        raise error("The database cannot be reached.")

    monkeypatch.setattr(starting, "start", start)
    for _ in range(2):
        answer = operator.post("/jobs/export/start", "/jobs/export/start", arguments="--full")
        assert (answer.status_code, "Refresh" in answer.headers, then in answer.text) == (503, False, True)
    assert caplog.text.count("database unreachable") <= 1, "once a minute, however many pages are open"


def test_a_form_that_a_browser_sends_again_starts_nothing_again(place: Served, operator: Browser) -> None:
    """Browsers do so by themselves if a connection ends before the answer, and people by reloading."""
    place.define("load", command=["true"])
    form = sent(operator.get("/jobs/load/start"), payload="a")
    operator.act("/jobs/load/start", **form)
    again = operator.act("/jobs/load/start", **form)
    assert "Nothing was started again." in again
    assert len(place.admin.get("/v1/runs", params={"job": "load"}).json()["items"]) == 1
    changed = operator.post("/jobs/load/start", "/jobs/load/start", **form | {"payload": "b"})
    assert (changed.status_code, "has started load already" in changed.text) == (422, True)
    assert operator.post("/jobs/load/start", "/jobs/load/start", **sent(changed.text)).status_code == 303
    assert len(place.admin.get("/v1/runs", params={"job": "load"}).json()["items"]) == 2


def test_a_choice_that_is_none_any_more_is_refused(place: Served, operator: Browser) -> None:
    """The field had no place for it and showed the default, so the new run had that."""
    parameters: dict[str, Any] = {"region": {"type": "choice", "choices": ["eu", "us"], "default": "us"}}
    place.define("load", command=["true"], parameters=parameters)
    run_id = place.start("load", parameters={"region": "eu"})
    parameters["region"]["choices"] = ["apac", "us"]
    place.define("load", command=["true"], parameters=parameters)
    form = operator.get(f"/jobs/load/start?like={run_id}")
    assert re.findall(r"<option selected>(\w+)", form) == ["eu"]
    answer = operator.post("/jobs/load/start", **sent(form), **{"parameter.region": "eu"})
    assert (answer.status_code, "must be one of apac, us" in answer.text) == (422, True)


def test_a_list_that_ends_with_a_comma_has_no_empty_value(place: Served, operator: Browser) -> None:
    place.define("load", command=["true"], parameters={"days": {"type": "text", "many": True}})
    text = operator.act("/jobs/load/start", **{"parameter.days": "a, b,"})
    assert "--set days=a --set days=b<" in text
    assert "<code>[&#34;a&#34;, &#34;b&#34;]</code>" in text


def test_the_command_of_a_form_has_its_values_as_the_form_shows_them(place: Served, operator: Browser) -> None:
    place.define("load", command=["true"], parameters={"full": {"type": "boolean"}})
    run_id = place.start("load", parameters={"full": True})
    form = operator.get(f"/jobs/load/start?like={run_id}")
    text = operator.act("/jobs/load/start", **sent(form), **{"parameter.full": "true"})
    assert "jobfac start load --set full=true" in text


def test_a_form_like_a_run_says_that_it_stands_for_another_time(place: Served, operator: Browser) -> None:
    """The night's run failed, and the one with other values in the morning loaded the data of another day."""
    place.define("load", command=["echo", "${due.date}"], parameters={"limit": {"type": "integer", "default": 1}})
    first = start(place.db, "load", due_at=datetime.now(UTC))
    form = operator.get(f"/jobs/load/start?like={first}")
    assert f"Run {first} stood for" in form
    assert f"jobfac retry {first} --set NAME=VALUE" in form
    assert "stood for" not in operator.get("/jobs/load/start")


def test_a_form_like_a_run_that_was_removed_since_is_shown_again(place: Served, operator: Browser) -> None:
    """The sequence started without what the form said that it gives to its jobs."""
    define(place.db, inner={}, outer={"steps": [{"name": "one", "jobs": ["inner"]}]})
    first = start(place.db, "outer", overrides={"arguments": {"inner": ["only"]}})
    form = operator.get(f"/jobs/outer/start?like={first}")
    with place.db.begin() as conn:
        conn.execute(run_event.delete().where(run_event.c.run_id == first))
        conn.execute(run.delete().where(run.c.id == first))
    answer = operator.post("/jobs/outer/start", **sent(form))
    said = f"Run {first}, whose values this form showed, was removed."
    assert (answer.status_code, said in answer.text) == (422, True)
    assert "like" not in sent(answer.text)


def test_a_step_that_is_gone_is_not_the_first_one(place: Served, operator: Browser) -> None:
    define(place.db, inner={}, outer={"steps": [{"name": "one", "jobs": ["inner"]}]})
    form = operator.get("/jobs/outer/start?from_step=gone")
    assert "<option selected>gone</option>" in form
    answer = operator.post("/jobs/outer/start", **sent(form), from_step="gone")
    assert (answer.status_code, "has no step &#39;gone&#39;" in answer.text) == (422, True)
