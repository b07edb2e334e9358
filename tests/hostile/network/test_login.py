"""Guessed keys, proxies, link previews and other origins: valid users are not locked out, and tricks give no access."""

import re
import time
from dataclasses import replace

import httpx
import pytest
from starlette.requests import Request

from jobfac.api import auth
from jobfac.api.auth import MAX_FAILURES, MAX_LINES
from jobfac.api.live import streams
from jobfac.api.resources import events, output
from jobfac.api.serving.proxy import client as address_of
from jobfac.api.single_sign_on import PEER, SingleSignOn
from jobfac.database.engine import Database
from jobfac.errors import Invalid, Unreachable
from jobfac.operations import keys
from jobfac.operations.caller import Caller
from jobfac.settings import Settings, SettingsError
from jobfac.store import api_keys
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served


def test_a_valid_key_is_accepted_after_many_wrong_ones(served: Served) -> None:
    key = served.keys[Role.VIEWER]
    wrong = "_".join([*key.split("_")[:2], "guess"])
    for bad in (wrong, "jf_000000000000_guess", "nonsense"):
        guesser = served.client(bad)
        assert [guesser.get("/v1/jobs").status_code for _ in range(MAX_FAILURES + 1)][-1] == 429
    assert served.viewer.get("/v1/jobs").status_code == 200
    assert served.client(key).get("/v1/jobs").status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "hops", "address"),
    [
        (["198.51.100.7"], 1, "198.51.100.7"),
        (["127.0.0.1, 198.51.100.7"], 1, "198.51.100.7"),
        (["10.9.9.9", "198.51.100.7"], 1, "198.51.100.7"),
        (["203.0.113.5, 198.51.100.7, 10.0.0.1"], 2, "198.51.100.7"),
        (["198.51.100.7"], 2, "198.51.100.7"),
        (["203.0.113.5, [2001:db8::1]:443"], 1, "2001:db8::1"),
        (["203.0.113.5, 198.51.100.7:1234"], 1, "198.51.100.7"),
        (["203.0.113.5, unknown"], 1, None),
        (["203.0.113.5, "], 1, None),
        ([], 1, None),
    ],
)
def test_forwarded_addresses_of_the_client_itself_are_ignored(
    forwarded: list[str], hops: int, address: str | None
) -> None:
    assert address_of(forwarded, hops) == address


@pytest.mark.parametrize(("behind_proxy", "address"), [(True, "198.51.100.7"), (False, "127.0.0.1")])
def test_the_log_of_a_failed_login_names_the_clients_address(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, behind_proxy: bool, address: str
) -> None:
    db = Database(sqlite_url)
    with Served(db, Settings(api_port=0), behind_proxy) as served:
        headers = {"X-Forwarded-For": "203.0.113.5, 198.51.100.7"}
        for _ in range(3):
            served.client("jf_000000000000_guess").get("/v1/jobs", headers=headers)
    db.close()
    everything: list[dict[str, object]] = [getattr(record, "fields", {}) for record in caplog.records]
    lines = [fields for fields in everything if fields.get("action") == "login_failed"]
    assert len(lines) == 1, caplog.text  # the only line in a minute
    assert lines[0]["address"] == address
    assert "203.0.113.5" not in str(lines)


def test_made_up_keys_do_not_fill_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    guesser = served.client(None)
    for number in range(MAX_LINES + 5):
        guesser.get("/v1/jobs", headers={"Authorization": f"Bearer jf_{number:012}_guess"})
    everything: list[dict[str, object]] = [getattr(record, "fields", {}) for record in caplog.records]
    assert sum(fields.get("action") == "login_failed" for fields in everything) == MAX_LINES


def test_a_preview_of_the_login_link_does_not_use_it_up(served: Served) -> None:
    link = served.server.link("anna")
    assert served.client(None).head(link).status_code == 200
    assert not served.client(None).head(link).cookies
    browser = served.client(None)
    assert browser.get(link).status_code == 303
    assert browser.get("/v1/jobs").status_code == 200


def test_the_login_link_expires(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LINK_LIFETIME", 0.0)
    answer = served.client(None).get(served.server.link("anna"))
    assert answer.status_code == 403
    assert "is too old" in answer.text


def test_a_login_link_is_not_spent_while_the_database_is_away(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unreachable("The database is locked.")

    link, browser = served.server.link("anna"), served.client(None)
    with monkeypatch.context() as patch:
        patch.setattr(api_keys, "create", away)
        assert browser.get(link).status_code == 503
    assert browser.get(link).status_code == 303


def test_the_login_link_is_for_the_next_hour(served: Served) -> None:
    authenticator = served.server.app.state.service.authenticator
    authenticator.new_link("anna")
    ((end, _),) = authenticator._links.values()
    assert 3500 < end - time.monotonic() <= 3600


@pytest.mark.parametrize("authorization", ["Basic eDp5", "Digest x", "x"])
def test_a_session_allows_no_change_from_another_origin(served: Served, authorization: str) -> None:
    browser = served.client(None)
    browser.get(served.server.link("anna"))
    answer = browser.put("/v1/jobs/a", json={"command": ["true"]}, headers={"Authorization": authorization})
    assert answer.status_code == 403
    assert served.viewer.get("/v1/jobs/a").status_code == 404


def test_the_streams_of_one_key_do_not_block_other_keys(served: Served) -> None:
    live = served.server.app.state.service.live
    live.limit = 10
    headers = {"Accept": "text/event-stream"}
    namesake = served.client(served.key(Role.VIEWER))
    with (
        served.viewer.stream("GET", "/v1/events", headers=headers) as one,
        served.viewer.stream("GET", "/v1/events", headers=headers) as two,
        namesake.stream("GET", "/v1/events", headers=headers) as other,
    ):
        assert (one.status_code, two.status_code, other.status_code) == (200, 200, 200)
        refused = served.viewer.get("/v1/events", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert re.match(r"The key \d+ \('viewer'\) has 2 event streams .* open, its share", refused.json()["detail"])
        assert httpx.get(f"{served.url}/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/events", "/v1/runs/1/output", "/live"])
def test_a_stream_ends_after_its_key_was_revoked(served: Served, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Otherwise a key that was stolen and revoked would read what happens for as long as the thief stays connected."""
    monkeypatch.setattr(streams, "CHECK", 0.2)
    for module in (events, output):
        monkeypatch.setattr(module, "KEEP_ALIVE", 0.1)
    served.define("a")
    served.start("a")
    key = served.key(Role.VIEWER)
    number = served.admin.get("/v1/keys").json()["items"][-1]["id"]
    headers = {"Accept": "text/event-stream"}
    with served.client(key).stream("GET", path, headers=headers, timeout=20) as stream:
        assert stream.status_code == 200
        lines = stream.iter_lines()
        next(lines)
        served.admin.delete(f"/v1/keys/{number}").raise_for_status()
        served.define("b")
        end = time.monotonic() + 15
        for _ in lines:  # it ends by itself
            assert time.monotonic() < end


def sso(addresses: str, secret: str = "") -> Settings:
    """Single sign-on by a proxy."""
    settings = Settings(api_port=0, proxy_user_header="X-User", proxy_roles="*=admin")
    return replace(settings, proxy_addresses=addresses, proxy_secret=secret)


@pytest.mark.parametrize("addresses", ["127.0.0.1", "::1", "0.0.0.0/0", "10.0.0.0/8, 127.0.0.0/16"])
def test_a_proxy_on_this_machine_should_prove_itself(addresses: str, caplog: pytest.LogCaptureFixture) -> None:
    SingleSignOn(sso(addresses, "shared"))
    SingleSignOn(sso("10.0.0.0/8"))
    assert caplog.text == ""
    SingleSignOn(sso(addresses))
    assert "set proxy_secret" in caplog.text


def test_another_program_of_the_proxys_machine_names_nobody(sqlite_url: str) -> None:
    """Every user and program of the machine, and every notification of a scheduler there, has the proxy's address."""
    db = Database(sqlite_url)
    with Served(db, sso("127.0.0.1, ::1", "shared"), behind_proxy=True) as served:
        client = served.client(None, headers={"X-User": "eve"})
        name = "X-Jobfac-Proxy-Secret"
        tried: list[list[bytes]] = [[], [b"guess"], [b""], [b"shared", b"shared"], [b"\xe4"]]
        for values in tried:
            sent = [(name.encode(), value) for value in values]
            assert client.get("/v1/keys", headers=sent).status_code == 403
        assert client.get("/v1/keys", headers={name: "shared"}).status_code == 200
    db.close()


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_secret_of_the_proxy_is_no_secret(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a deployment has not filled: without the check, everybody on the machine would be an admin."""
    monkeypatch.setenv("PROXY_SECRET", value)
    with pytest.raises(SettingsError, match="proxy_secret cannot be used: the secret env:PROXY_SECRET is empty here"):
        SingleSignOn(sso("127.0.0.1", "env:PROXY_SECRET"))


def test_names_of_people_and_groups_are_utf_8_and_no_other_group_looks_like_one() -> None:
    settings = sso("127.0.0.1", "geheim-ß")
    roles = "Büro=operator,dba=admin,*=viewer"
    trusted = SingleSignOn(replace(settings, proxy_groups_header="X-Groups", proxy_roles=roles))

    def role(groups: bytes, person: bytes = "Jürgen".encode()) -> tuple[str, Role]:
        headers = [(b"x-user", person), (b"x-groups", groups), (b"x-jobfac-proxy-secret", "geheim-ß".encode())]
        caller = trusted.caller(Request({"type": "http", "headers": headers, PEER: ("127.0.0.1", 1)}))
        assert caller is not None
        return caller.name, caller.role

    assert role("x, Büro".encode()) == ("Jürgen", Role.OPERATOR)
    assert role(b"B\xfcro", b"J\xfcrgen") == ("Jürgen", Role.OPERATOR)  # a proxy that sends Latin-1
    for other in ("\u00a0dba", "dba\u2003", "\u200bdba", "DBA", "x;dba", "Bu\u0308ro"):
        assert role(other.encode())[1] == Role.VIEWER, other
    assert role(b"\xa0dba")[1] == Role.VIEWER


def test_a_token_that_a_proxy_adds_is_no_key(sqlite_url: str) -> None:
    """oauth2-proxy may pass its own token on: every page answered that this key is unknown."""
    db = Database(sqlite_url)
    with Served(db, sso("127.0.0.1, ::1"), behind_proxy=True) as served:
        token = {"Authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}
        person = served.client(None, headers={"X-User": "eve", **token})
        assert person.get("/v1/keys").status_code == 200
        own = person.put("/v1/jobs/a", json={"command": ["true"]}, headers={"Origin": served.url})
        assert own.status_code == 201
        # The token replaces no Origin: a page of somebody else could make the browser send it.
        assert person.put("/v1/jobs/b", json={"command": ["true"]}).status_code == 403
        assert served.client(None, headers=token).get("/v1/keys").status_code == 401
        wrong = {"Authorization": "Bearer jf_000000000000_guess"}
        assert served.client(None, headers={"X-User": "eve", **wrong}).get("/v1/keys").status_code == 401
    db.close()


def test_a_stream_of_a_person_ends_so_that_the_proxy_decides_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is not asked about an open stream: somebody whose groups were taken away would read on."""
    monkeypatch.setattr(streams, "CHECK", 0.2)
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.1)
    monkeypatch.setattr(auth, "PERSON_LIFETIME", 0.5)
    db = Database(sqlite_url)
    with Served(db, sso("127.0.0.1, ::1"), behind_proxy=True) as served:
        person = served.client(None, headers={"X-User": "eve", "Accept": "text/event-stream"})
        with person.stream("GET", "/v1/events", timeout=20) as stream:
            assert stream.status_code == 200
            for line in stream.iter_lines():  # it ends by itself
                assert line in (": still here", "")
    db.close()


def test_a_key_has_a_name_and_no_blank_category(served: Served) -> None:
    """The audit would name nobody; a key to the category '' looks limited and sees nothing."""
    for body in ({"name": "  "}, {"name": "a", "categories": [" "]}):
        answer = served.admin.post("/v1/keys", json={"role": "viewer", **body})
        assert (answer.status_code, "must not be blank" in answer.json()["detail"]) == (422, True)
    with pytest.raises(Invalid, match="A category must not be blank"):
        keys.create(served.db, Caller("me"), "a", Role.VIEWER, categories=[""])


def test_what_is_named_has_a_name_of_one_line(served: Served) -> None:
    """A name with a line end or a change of direction would forge what lists and the audit show."""
    served.define("job", command=["true"])
    for path, body in (
        ("/v1/keys", {"role": "viewer", "name": "a\nb"}),
        ("/v1/keys", {"role": "viewer", "name": "a", "categories": ["a\u202eb"]}),
        ("/v1/jobs/job/urls", {"name": "a\x9bb"}),
        ("/v1/jobs/job/urls", {"name": "a\u2028b"}),
    ):
        answer = served.admin.post(path, json=body)
        assert (answer.status_code, "must be one line of text" in answer.json()["detail"]) == (422, True), body
