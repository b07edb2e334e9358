"""Logging in and out: by key and by link, what goes wrong, and what a session survives."""

from dataclasses import replace

import pytest

from jobfac.api import auth
from jobfac.api.single_sign_on import SingleSignOn
from jobfac.database.engine import Database
from jobfac.errors import NotReady
from jobfac.settings import Settings, SettingsError
from jobfac.store import api_keys
from jobfac.store.api_keys import Role
from jobfac.store.history import audit_log
from tests.roles.pages.stage import Browser, Stage, furnish
from tests.support.api_stage import Served

HTML = {"Accept": "text/html"}


def test_without_a_session_every_page_leads_to_the_login_and_back(place: Served, stage: Stage) -> None:
    browser = place.client(None, headers=HTML)
    answer = browser.get("/runs?state=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fruns%3Fstate%3Dfailed")
    form = {"key": place.keys[Role.VIEWER], "next": "/runs?state=failed"}
    answer = browser.post("/login", data=form, headers={"Origin": place.url})
    assert answer.headers["location"] == "/runs?state=failed"
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example"):
        answer = browser.post("/login", data={**form, "next": elsewhere}, headers={"Origin": place.url})
        assert answer.headers["location"] == "/"


def test_a_wrong_key_says_so(place: Served) -> None:
    browser = place.client(None)
    answer = browser.post("/login", data={"key": "jf_000000000000_guess"}, headers={"Origin": place.url})
    assert answer.status_code == 401
    assert "This key is unknown, revoked or expired" in answer.text
    assert not answer.cookies


def test_a_used_link_and_one_that_is_too_old_say_what_to_do(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    link = place.server.link("anna")
    first = place.client(None)
    assert first.head(link).status_code == 200  # a preview
    assert first.get(link).status_code == 303
    assert first.get("/", headers=HTML).status_code == 200
    again = place.client(None).get(link)
    assert (again.status_code, "was used before" in again.text) == (403, True)
    assert first.get(link).headers["location"] == "/"  # it was this browser's
    monkeypatch.setattr(auth, "LINK_LIFETIME", 0.0)
    assert place.client(None).get(place.server.link("anna")).status_code == 403


def test_the_audit_names_the_person_or_the_key(place: Served, stage: Stage) -> None:
    person = place.client(None)
    person.get(place.server.link("anna"))
    person.post(f"/runs/{stage.failed}/retry", headers={"Origin": place.url})
    Browser(place, place.keys[Role.OPERATOR]).post(f"/runs/{stage.succeeded}/retry")
    names = [entry.by for entry in place.db.query(audit_log.find, 10).entries if entry.action == "retry"]
    assert names == ["operator", "anna"]


def test_a_session_survives_a_restart_and_ends_with_its_key(place: Served, stage: Stage) -> None:
    made = place.db.transact(api_keys.create, "night", Role.OPERATOR, "tests")
    browser = Browser(place, made.key)
    with Served(place.db, place.settings) as other:  # another process, or the same after a restart
        (value,) = browser.client.cookies.values()
        client = other.client(None, cookies={f"jobfac-{other.server.port}": value}, headers=HTML)
        assert client.get("/runs").status_code == 200
    assert place.db.transact(api_keys.revoke, made.id, "tests")
    answer = browser.client.get("/runs")
    assert answer.headers["location"] == "/login?next=%2Fruns"
    assert "Your session has ended" in browser.client.get("/login").text


@pytest.mark.parametrize(("public", "host"), [("", "jobs.test"), ("", "jobs.test:8443"), ("https://jobs.test", "a:1")])
def test_a_session_is_valid_at_each_process_behind_one_address(
    place: Served, stage: Stage, public: str, host: str
) -> None:
    settings = replace(place.settings, public_url=public)
    with Served(place.db, settings, behind_proxy=True) as one, Served(place.db, settings, behind_proxy=True) as other:
        browser = one.client(None, headers={**HTML, "Host": host})
        form = {"key": place.keys[Role.VIEWER]}
        assert browser.post("/login", data=form, headers={"Origin": public or f"https://{host}"}).status_code == 303
        cookies = dict(browser.cookies)
        assert other.client(None, cookies=cookies, headers={**HTML, "Host": host}).get("/runs").status_code == 200


def test_an_expired_or_forged_session_is_none(place: Served, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(place, place.keys[Role.VIEWER])
    name, value = next(iter(browser.client.cookies.items()))
    for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "x" + value, value.partition(".")[0], ""):
        client = place.client(None, headers={**HTML, "Cookie": f"{name}={forged}"})
        assert client.get("/").status_code == 303, forged
    monkeypatch.setattr(auth, "SESSION_LIFETIME", 0.0)
    over = place.client(None, headers=HTML)
    over.post("/login", data={"key": place.keys[Role.VIEWER]}, headers={"Origin": place.url})
    assert over.get("/").status_code == 303


def test_logging_out(place: Served, stage: Stage) -> None:
    browser = Browser(place, place.keys[Role.VIEWER])
    (value,) = browser.client.cookies.values()
    copy = {f"jobfac-{place.server.port}": value}
    colleague = Browser(place, place.keys[Role.VIEWER])  # the same key, another session
    assert place.client(None, headers=HTML, cookies=copy).get("/").status_code == 200
    assert "You are logged out" in browser.act("/logout")
    assert browser.client.get("/").status_code == 303
    assert place.client(None, headers=HTML, cookies=copy).get("/").status_code == 303
    assert place.client(None, cookies=copy).get("/v1/runs").status_code == 401
    assert place.client(None, cookies=copy).post("/logout", headers={"Origin": place.url}).status_code == 303
    assert colleague.client.get("/").status_code == 200


def test_the_session_of_a_link_has_a_key_that_ends_it(place: Served, stage: Stage) -> None:
    thief, owner = place.client(None, headers=HTML), place.client(None, headers=HTML)
    link = place.server.link("anna")
    assert thief.get(link).status_code == 303
    assert "If somebody else used the link" in owner.get(link).text
    key = place.db.query(api_keys.list_keys)[-1]
    assert (key.name, key.role, key.expires_at is not None) == ("anna", "admin", True)
    assert place.admin.delete(f"/v1/keys/{key.id}").status_code == 204
    assert thief.get("/").status_code == 303
    assert owner.get(place.server.link("anna")).status_code == 303
    assert owner.post("/logout", headers={"Origin": place.url}).status_code == 303
    assert place.db.query(api_keys.list_keys)[-1].revoked_at is not None
    words = [one.action for one in place.db.query(audit_log.find, 4).entries]
    assert words == ["revoke key", "log in by link", "revoke key", "log in by link"]


def test_a_key_in_the_header_serves_a_page(place: Served, stage: Stage) -> None:
    assert "Failures" in place.viewer.get("/").text
    assert place.client("jf_000000000000_guess").get("/").status_code == 401
    assert place.operator.post(f"/runs/{stage.failed}/retry").status_code == 303


def test_a_form_from_elsewhere_is_refused(place: Served, stage: Stage) -> None:
    browser = Browser(place, place.keys[Role.OPERATOR])
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert browser.client.post(f"/runs/{stage.failed}/retry", headers=headers).status_code == 403
    answer = browser.client.post("/login", content=b"{}", headers={"Origin": place.url, "Content-Type": "text/plain"})
    assert answer.status_code == 415


def test_the_theme_is_kept(place: Served, stage: Stage) -> None:
    browser = Browser(place, place.keys[Role.VIEWER])
    assert 'data-theme="dark"' in browser.act("/theme", theme="dark")
    assert "data-theme=" not in browser.act("/theme", theme='"><script>')


def test_a_trusted_proxy_names_the_person_and_the_role(sqlite_url: str, settings: Settings) -> None:
    db = Database(sqlite_url)
    trusted = replace(
        settings, api_port=0, proxy_user_header="X-User", proxy_groups_header="X-Groups",
        proxy_roles="dba=admin,ops=operator", proxy_addresses="127.0.0.0/8", proxy_secret="shared",
    )  # fmt: skip
    proven = {**HTML, "X-Jobfac-Proxy-Secret": "shared"}
    with Served(db, trusted, behind_proxy=True) as served:
        failed = furnish(db).failed
        person = served.client(None, headers={**proven, "X-User": "anna", "X-Groups": "staff, ops"})
        assert "anna<br>operator" in person.get("/", headers={"X-Forwarded-For": "203.0.113.9"}).text
        assert person.post(f"/runs/{failed}/retry").status_code == 403  # no page of ours sent it
        assert person.post(f"/runs/{failed}/retry", headers={"Origin": served.url}).status_code == 303
        assert db.query(audit_log.find, 1, action="retry").entries[0].by == "anna"
        assert served.client(None, headers={**proven, "X-User": "eve"}).get("/").status_code == 403  # no role
        twice = served.client(None, headers=proven)
        assert twice.get("/", headers=[("X-User", "a"), ("X-User", "b"), ("X-Groups", "dba")]).status_code == 403
        own_groups = [("X-User", "eve"), ("X-Groups", "dba"), ("X-Groups", "staff")]  # the proxy has added the second
        assert twice.get("/", headers=own_groups).status_code == 403
        assert served.viewer.get("/v1/jobs", headers={"X-User": "eve"}).status_code == 200  # a key counts
    with Served(db, replace(trusted, proxy_addresses="10.0.0.1")) as served:
        answer = served.client(None, headers={**HTML, "X-User": "anna", "X-Groups": "dba"}).get("/")
        assert (answer.status_code, "only from a proxy" in answer.text) == (403, True)
    with Served(db, replace(settings, api_port=0)) as served:  # off unless it is set
        assert served.client(None, headers={**HTML, "X-User": "anna"}).get("/").status_code == 303
    db.close()


def test_single_sign_on_needs_its_settings() -> None:
    with pytest.raises(SettingsError, match="needs proxy_addresses"):
        SingleSignOn(replace(Settings(), proxy_user_header="X-User"))
    for wrong in (
        replace(Settings(), proxy_roles="dba=king"),
        replace(Settings(), proxy_addresses="everywhere"),
        replace(Settings(), proxy_secret="env:JOBFAC_NO_SUCH_VARIABLE"),
    ):
        with pytest.raises(SettingsError):
            SingleSignOn(wrong)
    with pytest.raises(NotReady, match="proxy_secret cannot be used"):
        SingleSignOn(replace(Settings(), proxy_secret="file:/nowhere/secret"))
