"""A secret that a program reports or prints is not stored in any form."""

import base64
import json
import os
import random
import re
import time
import traceback
from itertools import product
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa

from jobfac.database.engine import Database
from jobfac.programs.masking import Mask, base64_forms, period
from jobfac.secret_references import SecretError, resolve
from jobfac.store import output
from jobfac.worker.executions.fingerprints import fingerprints_path, keep
from jobfac.worker.spool_folder import KEPT, SpoolFolder
from tests.hostile.others import NOBODY, as_nobody, needs_root
from tests.support.api_stage import Served
from tests.support.database import Hand, define, start
from tests.support.factory import wait_for
from tests.support.process_stage import left_file

SECRET = "p4ss/w0rd+?>~ü"

PROGRAM = """
import base64, json, os, sys
secret = os.environ["TOKEN"]
with open(os.environ["JOBFAC_REPORT"], "a") as report:
    for said in (
        {"progress": 0.5, "message": "with " + secret},
        {"outputs": {"a": {"deep": ["x", secret + "y"]}, secret: 1}},
        {"result": "failed", "exit_message": "no entry for " + secret},
    ):
        report.write(json.dumps(said) + chr(10))
for before in ("", "u:", "me:"):
    print("Basic", base64.b64encode((before + secret).encode()).decode(), "end")
    print(base64.urlsafe_b64encode((before + secret + ":more").encode()).decode())
print(secret)
"""


def test_what_a_program_reports_and_prints_is_stored_without_its_secrets(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE_TOKEN", SECRET)
    environment = {"TOKEN": {"secret": "env:HOSTILE_TOKEN"}}
    served.define("a", command=["python3", "-c", PROGRAM], environment=environment, aware=True)
    run = served.start("a")
    with served.worker():
        wait_for(lambda: served.viewer.get(f"/v1/runs/{run}").json()["ended_at"], "the end")
    shown = served.viewer.get(f"/v1/runs/{run}").json()
    stars = "*" * len(SECRET.encode())
    assert (shown["message"], shown["exit_message"]) == (f"with {stars}", f"no entry for {stars}")
    assert shown["outputs"] == {"a": {"deep": ["x", f"{stars}y"]}, stars: 1}
    text = served.viewer.get(f"/v1/runs/{run}/output").text
    stored = json.dumps(shown, ensure_ascii=False) + text
    for part in (SECRET, *(form.decode() for form in base64_forms(SECRET.encode()))):
        assert part not in stored
    assert text.count("end") == 3


def test_output_in_the_encoding_of_its_job_is_stored_without_its_secrets(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE_TOKEN", "plain-secret")
    says = "import os, sys; sys.stdout.buffer.write(f'x {os.environ[\"T\"]} y'.encode('utf-16-le'))"
    environment = {"T": {"secret": "env:HOSTILE_TOKEN"}}
    served.define("a", command=["python3", "-c", says], environment=environment, encoding="utf-16-le")
    run = served.start("a")
    with served.worker():
        wait_for(lambda: served.viewer.get(f"/v1/runs/{run}").json()["ended_at"], "the end")
    assert served.viewer.get(f"/v1/runs/{run}/output").content == b"x\0 \0" + b"*" * 24 + b" \0y\0"


def test_the_base64_of_a_secret_is_masked_at_any_position() -> None:
    chance = random.Random(7)
    for _ in range(300):
        secret = chance.randbytes(chance.randint(8, 40))
        mask = Mask([secret])
        around = chance.randbytes(chance.randint(0, 9)), chance.randbytes(chance.randint(0, 9))
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(around[0] + secret + around[1])
            masked = mask.apply(text)
            # At most one character on each side may depend on the secret.
            assert masked.count(b"*") >= len(secret) * 8 // 6 - 2
            assert len(masked) == len(text)


@pytest.mark.parametrize("secret", ['a"b\\c/d\nü', "50% off & <more>", "kö~w 😀'+`=", "\\u00fc ü", "p@ss:w/rd?#"])
def test_a_secret_in_json_or_in_a_url_is_masked(secret: str) -> None:
    mask = Mask([secret.encode()])
    in_ascii = json.dumps(secret)[1:-1]
    for form in (
        in_ascii,
        in_ascii.replace("/", "\\/"),
        json.dumps(secret, ensure_ascii=False)[1:-1],
        in_ascii.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        re.sub("%..", lambda found: found[0].lower(), quote_plus(secret)),
        quote(secret, safe="!*'()"),
    ):
        assert mask.apply(b"x" + form.encode() + b"y") == b"x" + b"*" * len(form.encode()) + b"y", form


def test_a_secret_as_encoders_with_more_codes_write_it_is_masked() -> None:
    mask = Mask(['"<kü+\\u00fc'.encode()])
    dotnet, gson = rb"\u0022\u003Ck\u00FC\u002B\\u00fc", '\\"\\u003ckü+\\\\u00fc'.encode()
    assert mask.apply(dotnet) + mask.apply(gson) == b"*" * len(dotnet + gson)


def test_a_secret_that_is_no_text_is_masked_in_a_url() -> None:
    assert Mask([b"\xff\x00/"]).apply(b"=%FF%00%2F&") == b"=*********&"


@pytest.mark.parametrize("secret", ["it's\"x", "s3cret\x7fü", "nb\u00a0sp'x", "back\\slash'\"", "plain"])
@pytest.mark.parametrize("around", ["{}", "'{}", '"{}', "'{}\""])
def test_a_secret_that_a_sentence_quotes_is_masked(secret: str, around: str) -> None:
    said = repr(around.format(secret))
    assert re.fullmatch(r"""['"\\]*[*]+['"\\]*""", Mask([secret.encode()]).hide(said))


@pytest.mark.parametrize("secret", [b"/var/lib/geheim/token", b"postgresql://ann:geheim@db/payroll"])
def test_the_folder_of_a_path_and_the_scheme_of_an_address_are_not_masked(secret: bytes) -> None:
    said = "reads /var/lib/dpkg/status, connects to postgresql://db/reports"
    assert Mask([secret]).hide(said) == said


@pytest.mark.parametrize("secret", ["dGhlIGxvbmcgb25l/d29ybGQ=", "a//b1234567", "./b1234567/", "12345678/../b"])
def test_a_secret_in_a_path_is_masked(secret: str) -> None:
    path = Path("/srv", f"x{secret}.log" if secret[0] != "." else secret)
    mask = Mask([secret.encode()])
    for said in (str(path), f"the folder {str(path.parent)!r} does not exist"):
        assert not set(re.findall(r"\w{8,}", secret)) & set(re.findall(r"\w{8,}", mask.hide(said).replace("/x", "/")))


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (b"pa'ss-w0rd-77", rb"pa'\''ss-w0rd-77"),  # set -x
        (b"pa'ss-w0rd-77", b"""pa'"'"'ss-w0rd-77"""),  # shlex.quote
        (b"tok-s3cret-1234\r", b"tok-s3cret-1234"),
        (b"-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END KEY-----\n", b"MIIEvQIBADANBgkqhkiG"),
    ],
)
def test_a_secret_as_shells_and_loggers_write_it_is_masked(secret: bytes, said: bytes) -> None:
    assert Mask([secret]).apply(b"+ curl 'u:" + said + b"'\n") == b"+ curl 'u:" + b"*" * len(said) + b"'\n"


def test_a_number_that_is_a_secret_is_masked_in_outputs() -> None:
    mask = Mask([b"123456", b"1.5", b"text"])
    assert mask.hide({"a": 123456, "b": [1.5, 12345, True], "c": "x123456"}) == {
        "a": "******", "b": ["***", 12345, True], "c": "x******",
    }  # fmt: skip


def test_a_short_secret_masks_nothing_else() -> None:
    assert Mask([b"ab"]).apply(b"YWI= YWJj") == b"YWI= YWJj"
    assert Mask([b"ab"]).hide({"ab": ["cab", 1, None, True, 1.5]}) == {"**": ["c**", 1, None, True, 1.5]}
    assert Mask([]).hide({"a": "b"}) == {"a": "b"}


def test_a_secret_is_masked_within_each_text_of_a_value_and_not_across_two() -> None:
    mask = Mask([b"geheim-1", b"\xff\xffraw"])
    value = {"geheim-1": ["geheim-", "1", "", "xgeheim-1"], "": {"\udc80": "raw geheim-1"}, "n": [1.5, None]}
    assert mask.hide(value) == {
        "********": ["geheim-", "1", "", "x********"], "": {"\udc80": "raw ********"}, "n": [1.5, None],
    }  # fmt: skip


@needs_root
def test_a_secret_behind_another_users_link_is_not_read(crossroads: Path) -> None:
    """Otherwise the user of a job could have any file of root passed to its program."""
    (crossroads / "root").write_text("root's own")
    (crossroads / "root").chmod(0o600)
    theirs = crossroads / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    as_nobody(lambda: (theirs / "token").symlink_to("../root"))
    as_nobody(lambda: (theirs / "folder").symlink_to(".."))
    os.link(crossroads / "root", theirs / "twice")
    for name, why in (("token", "symbolic link"), ("folder/root", "symbolic link"), ("twice", "second name")):
        with pytest.raises(SecretError, match=why):
            resolve(f"file:{theirs / name}")


def test_a_pipe_or_a_device_is_no_secret_and_stops_no_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(2 * 1024 * 1024))
    for name, why in (
        (tmp_path / "pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (tmp_path / "large", "more than 1,048,576 bytes"),
        (tmp_path / "missing", "No such file"),
    ):
        with pytest.raises(SecretError, match=why):
            resolve(f"file:{name}")


def test_a_secret_behind_links_of_the_user_is_read(tmp_path: Path) -> None:
    """As Kubernetes mounts secrets: token -> ..data/token, ..data -> ..2027."""
    (tmp_path / "..2027").mkdir()
    (tmp_path / "..2027/token").write_text("geheim\n")
    (tmp_path / "..data").symlink_to("..2027")
    (tmp_path / "token").symlink_to("..data/token")
    (tmp_path / "absolute").symlink_to(tmp_path / "token")
    assert resolve(f"file:{tmp_path}/token") == resolve(f"file:{tmp_path}/absolute") == "geheim"


def leave_output(spool: Path, token: str, run: int, text: str) -> Path:
    """Write what a dead worker's program has printed into that worker's folder; returns the folder."""
    left = spool / token
    left.mkdir(parents=True)
    spool.chmod(0o700)
    (left / "lock").touch()
    left_file(left, run).write_text(text)
    return left


def test_what_a_dead_worker_left_is_stored_without_sensitive_values(db: Database, tmp_path: Path) -> None:
    define(db, a={"command": ["load"], "parameters": {"token": {"sensitive": True}, "open": {}}})
    run = start(db, "a", parameters={"token": "hunter22", "open": "shown"})
    Hand(db, "token").take()
    leave_output(tmp_path / "spool", "token", run, "hunter22 and shown")
    SpoolFolder(tmp_path / "spool", "mine", "w2").clear_dead(db)
    with db.read() as conn:
        (piece,) = output.read(conn, run, 1, {"stdout": 0})
    assert piece.data == b"******** and shown"


def test_what_a_dead_worker_left_is_not_stored_after_its_secret_was_rotated(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(db, a={"command": ["load"], "environment": {"TOKEN": {"secret": "env:HOSTILE_TOKEN"}}})
    kept: dict[str, bytes] = {}
    for now in ("former-secret", "latest-secret"):
        run = start(db, "a")
        Hand(db, f"of-{now}").take()
        left = leave_output(tmp_path / "spool", f"of-{now}", run, f"with {now}")
        keep(fingerprints_path(left_file(left, run)), {"env:HOSTILE_TOKEN": now})
        monkeypatch.setenv("HOSTILE_TOKEN", "latest-secret")
        SpoolFolder(tmp_path / "spool", "mine", "w2").clear_dead(db)
        with db.read() as conn:
            kept[now] = b"".join(piece.data for piece in output.read(conn, run, 1, {"stdout": 0}))
    assert kept == {"former-secret": b"", "latest-secret": b"with *************"}


def test_what_a_dead_worker_left_waits_a_day_for_a_worker_that_has_its_secret(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers of one machine share the spool, and not their environment. Only the machine's own time counts."""
    define(db, a={"command": ["load"], "environment": {"TOKEN": {"secret": "env:HOSTILE_TOKEN"}}})
    monkeypatch.delenv("HOSTILE_TOKEN", raising=False)
    monkeypatch.setattr("jobfac.programs.files.removal.clock", lambda: KEPT / 20)
    texts = []
    for token in ("young", "old"):
        run = start(db, "a")
        Hand(db, token).take()
        left = leave_output(tmp_path / "spool", token, run, "with geheim-12")
        keep(fingerprints_path(left_file(left, run)), {"env:HOSTILE_TOKEN": "geheim-12"})
        for path in left.rglob("*"):
            os.utime(path, (1, 1))  # the machine was off since
        folder = SpoolFolder(tmp_path / "spool", "mine", "w2")
        for text in ("", "60 1e9", f"{KEPT if token == 'old' else 0} 0"):  # a full disk; and since then it was off
            folder.clear_dead(db)
            (mark,) = left.rglob("*.unread")
            assert mark.read_text() in ("0.0 4320.0", "4380.0 4320.0")
            mark.write_text(text)
        folder.clear_dead(db)
        assert left.exists() == (token == "young")
        with monkeypatch.context() as patch:
            patch.setenv("HOSTILE_TOKEN", "geheim-12")
            folder.clear_dead(db)
        assert not left.exists()
        with db.read() as conn:
            texts.append(b"".join(piece.data for piece in output.read(conn, run, 1, {"stdout": 0})))
    assert texts == [b"with *********", b""]


def test_what_a_worker_of_another_database_left_is_not_stored_and_stays(db: Database, tmp_path: Path) -> None:
    """Both databases count their runs from 1, and the setting `spool` names the same folder."""
    define(db, a={})
    run = start(db, "a")
    Hand(db).take()
    left = leave_output(tmp_path / "spool", "another", run, "a secret that this database cannot mask")
    SpoolFolder(tmp_path / "spool", "mine", "w2").clear_dead(db)
    with db.read() as conn:
        assert list(output.read(conn, run, 1, {"stdout": 0})) == []
    assert left_file(left, run).exists()


def test_what_a_worker_left_is_not_stored_for_a_run_that_another_worker_had(db: Database, tmp_path: Path) -> None:
    """As after a database was restored: it forgets runs, and gives their numbers to others."""
    define(db, a={})
    run = start(db, "a")
    Hand(db, "dead")
    Hand(db, "living").take()
    leave_output(tmp_path / "spool", "dead", run, "of a run that the database has forgotten")
    SpoolFolder(tmp_path / "spool", "mine", "w2").clear_dead(db)
    with db.read() as conn:
        assert list(output.read(conn, run, 1, {"stdout": 0})) == []


def test_an_error_shows_no_values(db: Database) -> None:
    """They may be payloads and sensitive parameters, and an error goes to logs."""
    secret = str(2**40)  # its digits are not in this line, which the traceback shows
    with pytest.raises(sa.exc.DBAPIError) as caught, db.begin() as conn:
        conn.execute(sa.text("INSERT INTO nowhere VALUES (:value)"), {"value": secret})
    assert "nowhere" in str(caught.value)
    assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.alone
@pytest.mark.parametrize("secret", ["é" * 300_000, "ab" * 50_000], ids=["long", "repeats itself"])
def test_a_long_secret_takes_little_time(secret: str) -> None:
    """The worker's loop finds its forms, and searches for them."""
    before = time.process_time()
    output = (secret[2:] * 3).encode()
    assert Mask([secret.encode()]).apply(output) == b"*" * len(output)
    assert time.process_time() - before < 5


@pytest.mark.alone
def test_a_long_secret_that_almost_repeats_itself_takes_little_time() -> None:
    """A dozen starts with such a value of 64,000 characters took the worker's lease, and with it the runs of others."""
    before = time.process_time()
    secret = b"a" * 200_000 + b"b"
    mask = Mask([secret])
    assert mask.apply(b"a" + secret + b"a") == b"a" + b"*" * len(secret) + b"a"
    assert mask.unfinished(secret[:-1] + b"-") < len(secret)
    assert mask.unfinished(secret[:-1]) == len(secret) - 1
    assert time.process_time() - before < 5


def test_the_step_in_which_a_secret_repeats_itself_is_the_shortest() -> None:
    for length in range(1, 13):
        for letters in product(b"ab", repeat=length):
            secret = bytes(letters)
            steps = (step for step in range(1, length // 2 + 1) if secret.startswith(secret[step:]))
            assert period(secret) == next(steps, 0), secret
