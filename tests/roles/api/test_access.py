"""Access control: the role that each call needs, and protection from web pages and guessed keys."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from jobfac.api import TABLE, Server
from jobfac.api.auth import MAX_FAILURES
from jobfac.database.engine import Database
from jobfac.errors import NotReady
from jobfac.settings import Settings, SettingsError
from jobfac.store import api_keys
from tests.roles.api.allowed import ADMIN, ALLOWED, QUERIES, VIEWER
from tests.support.api_stage import Served
from tests.support.factory import wait_for


@pytest.fixture
def served(sqlite_url: str) -> Iterator[Served]:
    db = Database(sqlite_url)
    with Served(db, Settings(api_port=0)) as served:
        yield served
    db.close()


def test_every_call_is_in_the_table_of_permissions() -> None:
    assert sorted((call.method, call.path) for call in TABLE) == sorted(ALLOWED)


def test_every_role_has_exactly_its_permissions(served: Served) -> None:
    served.define("a", schedules=[{"cron": "0 6 * * *"}])
    served.start("a")
    clients = {None: served.client(None)} | {role: served.client(key) for role, key in served.keys.items()}
    for (method, path), needed in ALLOWED.items():
        url = path.replace(":id", "").format(
            job="a",
            version=1,
            run=1,
            worker=1,
            schedule=1,
            hold=1,
            key=99,
            report="summary",
            step="release",
            url=1,
            token="ju_0123456789ab_x",
        ) + QUERIES.get(path, "")
        for role, client in clients.items():
            if role is ADMIN and method == "DELETE":
                continue  # the job is needed later; another test covers the deletion by an admin
            body = {"command": ["true"]} if method == "PUT" else None
            status = client.request(method, url, json=body).status_code
            if needed is None:
                assert status not in (401, 429), (method, path, role)
            elif role is None:
                assert status == 401, (method, path, role)
            elif role.allows(needed):
                assert status not in (401, 403), (method, path, role, status)
            else:
                assert status == 403, (method, path, role, status)
    assert served.admin.delete("/v1/jobs/a").status_code == 204


def test_a_wrong_key_is_refused(served: Served) -> None:
    for key in ("_", "x", "jf_", "jf__", "jf_000000000000_" + "x" * 43, "jf_é", "Basic"):
        headers = [(b"Authorization", b"Bearer " + key.encode())]
        answer = httpx.get(f"{served.url}/v1/jobs", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="jobfac"'), key
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_revoked_or_expired_key_is_refused(served: Served) -> None:
    expired = served.client(served.key(ADMIN, lifetime=0.0))
    assert expired.get("/v1/jobs").status_code == 401
    made = served.db.transact(api_keys.create, "short", VIEWER, "tests")
    client = served.client(made.key)
    assert client.get("/v1/jobs").status_code == 200
    assert served.db.transact(api_keys.revoke, made.id, "tests")
    assert client.get("/v1/jobs").status_code == 401
    assert not served.db.transact(api_keys.revoke, made.id, "tests")


def test_a_key_is_not_stored(served: Served) -> None:
    secret = served.keys[ADMIN].split("_", 2)[2]
    assert all(secret not in str(row) for row in served.db.query(api_keys.list_keys))
    raw = served.db.engine.raw_connection()
    try:
        dump = "\n".join(raw.driver_connection.iterdump())  # type: ignore[union-attr]
    finally:
        raw.close()
    assert secret not in dump


def test_guesses_of_keys_are_limited(served: Served) -> None:
    guesser = served.client("jf_000000000000_guess")
    statuses = [guesser.get("/v1/jobs").status_code for _ in range(MAX_FAILURES + 1)]
    assert statuses == [401] * MAX_FAILURES + [429]
    assert 0 < int(guesser.get("/v1/jobs").headers["retry-after"]) <= 61
    assert served.client("jf_111111111111_guess").get("/v1/jobs").status_code == 401  # another prefix
    assert served.viewer.get("/v1/jobs").status_code == 200
    assert served.client(None).get("/healthz").status_code == 200


def test_the_login_link_works_once_for_one_browser(served: Served) -> None:
    link = served.server.link("anna")
    browser = served.client(None)
    answer = browser.get(link)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert browser.get("/v1/jobs").status_code == 200
    assert served.client(None).get(link).status_code == 403
    assert browser.get(link).status_code == 303  # the link was opened by this browser
    # Only the server's own pages may make changes with a session.

    def put(headers: dict[str, str]) -> httpx.Response:
        return browser.put("/v1/jobs/a", json={"command": ["true"]}, headers=headers)

    assert put({}).status_code == 403
    assert put({"Origin": "http://evil.example"}).status_code == 403
    assert put({"Origin": "null"}).status_code == 403
    assert put({"Origin": served.url}).status_code == 201
    forged = dict.fromkeys(answer.cookies, "forged")
    assert served.client(None, cookies=forged).get("/v1/jobs").status_code == 401


def test_another_host_name_is_refused(served: Served) -> None:
    for host in ("evil.example", f"evil.example:{served.server.port}", "127.0.0.1.evil.example", "[", ""):
        assert served.viewer.get("/v1/jobs", headers={"Host": host}).status_code == 421, host
    for host in ("localhost", f"127.0.0.1:{served.server.port}", "[::1]:80", "LOCALHOST"):
        assert served.viewer.get("/v1/jobs", headers={"Host": host}).status_code == 200, host


def test_another_origin_is_refused(served: Served) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1", "http://["):
        assert served.admin.get("/v1/jobs", headers={"Origin": origin}).status_code == 403, origin
    assert served.admin.get("/v1/jobs", headers={"Origin": served.url}).status_code == 200
    assert "access-control-allow-origin" not in served.admin.get("/v1/jobs").headers


def test_a_body_that_is_too_large_is_refused(served: Served) -> None:
    served.define("a")
    assert served.operator.post("/v1/jobs/a/runs", json={"payload": "x" * 2**22}).status_code == 201
    for size in (2**22 + 2**19, 2**26):  # the second one exceeds all buffers between client and server
        answer = served.operator.post("/v1/jobs/a/runs", content=b"x" * size)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


BODIES = [
    (b"{", "application/json", 400),
    (b'{"priority": 1e400}', "application/json", 422),
    (b'{"payload": "\\ud800"}', "application/json", 400),
    (b'{"payload": "a\\u0000b"}', "application/json", 422),
    (b"{}", "text/plain", 415),
    (b"{}", None, 415),
    (b"[]", "application/json", 422),
    (b"\xff", "application/json", 400),
    (b"[" * 100_000, "application/json", 400),
]


def test_a_body_that_cannot_be_read_is_a_problem(served: Served) -> None:
    served.define("a")
    for content, media, status in BODIES:
        headers = {} if media is None else {"Content-Type": media}
        answer = served.operator.post("/v1/jobs/a/runs", content=content, headers=headers)
        assert answer.status_code == status, (content[:40], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


SENTENCES = [
    ({"arguments": [1]}, "arguments: must be a list of texts; for a sequence an object with such a list by job id."),
    ({"colour": "red"}, "unknown name 'colour'."),
    (
        {"at": "2027-01-31T22:00:00 01:00"},
        "at: must be a time with its offset, such as 2027-01-31T22:00:00+01:00; write",
    ),
]


def test_a_problem_has_a_sentence(served: Served) -> None:
    served.define("a")
    for body, sentence in SENTENCES:
        assert served.operator.post("/v1/jobs/a/runs", json=body).json()["detail"].startswith(sentence)
    assert served.operator.patch("/v1/jobs").json()["detail"] == "/v1/jobs does not take PATCH, but GET, HEAD."


ERRORS = [
    ("GET", "/nowhere", 404),
    ("GET", "/v1/runs/", 404),
    ("GET", "/v1/runs/0", 404),
    ("GET", "/v1/runs/" + "9" * 5000, 404),
    ("GET", "/v1/runs/999999999", 404),
    ("GET", "/v1/jobs/none", 404),
    ("POST", "/v1/jobs/none/runs", 404),
    ("PATCH", "/v1/jobs", 405),
    ("POST", "/docs", 405),
    ("GET", "/v1/runs?limit=0", 422),
    ("GET", "/v1/runs?limit=1&limit=2", 422),
    ("GET", "/v1/runs?lmit=1", 422),
    ("GET", "/v1/runs?since=yesterday", 422),
    ("GET", "/v1/runs?state=done", 422),
    ("GET", "/v1/events?after=x", 422),
]


def test_every_error_is_a_problem_document(served: Served) -> None:
    for method, path, status in ERRORS:
        answer = served.operator.request(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert problem["detail"].endswith((".", "?"))
        assert (status == 405) == ("allow" in answer.headers)


def test_an_unreachable_database_is_a_problem(sqlite_url: str, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    with Served(db, Settings(api_port=0)) as served:
        assert served.client(None).get("/readyz").status_code == 200
        db.close()
        for file in tmp_path.glob("jobfac.db*"):
            file.unlink()
        wait_for(lambda: served.viewer.get("/readyz").status_code == 503, "the next look at the database")
        paths = ("/readyz", "/v1/jobs", "/v1/runs/1", "/metrics")
        with ThreadPoolExecutor(len(paths)) as clients:  # each is tried again for some seconds before it is answered
            answers = list(clients.map(served.viewer.get, paths))
        for path, answer in zip(paths, answers, strict=True):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(tmp_path) not in answer.text
        assert served.client(None).get("/healthz").status_code == 200
    db.close()


@pytest.mark.parametrize(
    ("host", "behind_proxy", "begin"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:"),  # it would refuse the other name
        ("127.0.0.1", True, "https://jobs.example.org/login"),
        ("0.0.0.0", True, "https://jobs.example.org/login"),
    ],
)
def test_the_login_link_has_the_public_address_if_others_reach_it(
    sqlite_url: str, host: str, behind_proxy: bool, begin: str
) -> None:
    settings = Settings(api_host=host, api_port=0, public_url="https://jobs.example.org/")
    with closing(Database(sqlite_url)) as db:
        server = Server(db, settings, behind_proxy)
        assert server.link("anna").startswith(begin)
        server._socket.close()


def test_the_server_listens_on_other_addresses_only_with_tls(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    with pytest.raises(SettingsError, match="without TLS"):
        Server(db, Settings(api_host="0.0.0.0", api_port=0))
    server = Server(db, Settings(api_host="0.0.0.0", api_port=0), behind_proxy=True)
    assert server.link("anna").startswith(f"http://127.0.0.1:{server.port}/login?token=")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        headers = {"Host": "jobs.example.org", "X-Forwarded-For": "192.0.2.1"}
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz", headers=headers).status_code == 200
    finally:
        server.stop()
        thread.join()
    db.close()


def test_the_server_supports_tls(sqlite_url: str, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    db = Database(sqlite_url)
    settings = Settings(api_host="0.0.0.0", api_port=0, api_tls_certificate=str(certificate), api_tls_key=str(key))
    server = Server(db, settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        answer = httpx.get(f"https://localhost:{server.port}/healthz", verify=trusted)
        assert answer.json() == {"status": "ok"}
    finally:
        server.stop()
        thread.join()
    with pytest.raises(NotReady, match=r"nowhere\.pem"):
        Server(db, Settings(api_port=0, api_tls_certificate="nowhere.pem"))
    db.close()


def test_an_address_that_is_not_there_yet_is_no_mistake_of_the_configuration(sqlite_url: str) -> None:
    """Supervisors restart no role that ends with exit code 2, and after a reboot an address may come late."""
    db = Database(sqlite_url)
    with pytest.raises(NotReady, match=r"cannot listen on 192\.0\.2\.1, port 1024: Cannot assign") as refused:
        Server(db, Settings(api_host="192.0.2.1", api_port=1024), behind_proxy=True)
    assert refused.value.exit_code == 4
    db.close()


def test_a_port_in_use_is_named(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(NotReady, match=rf"listen on 127\.0\.0\.1, port {port}: .* in use; stop .* --port"):
            Server(db, Settings(api_port=port))
    db.close()
