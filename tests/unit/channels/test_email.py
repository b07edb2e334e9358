"""Email and apprise, and the text that both send."""

import _thread
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from jobfac.channels import DeliveryError, Message, deliver, email, render
from jobfac.definitions import Recipient
from jobfac.machine import threads
from jobfac.settings import Settings, SettingsError, load
from tests.support.receivers import OK, Mailbox, Post, mailbox, part, receiving

BODY = {
    "id": 7, "job": "orders-export", "state": "failed", "attempt": 2, "exit_code": 3, "worker": "w1", "detail": None,
    "reason": "exit code 3", "exit_message": "<no> & 'rows'", "arguments": ["--full"], "event": "failed",
}  # fmt: skip
MESSAGE = Message("7.2.failed.abc", "failed", BODY, "line 1\n<b>last</b> line: $HOME Ärger\n")
TO = Recipient.model_validate({"email": ["ops@example.org"]})


APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""The library imports a module that newer versions of Python do not have."""


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


def through(box: Mailbox, **more: Any) -> Settings:
    given = {"smtp_tls": "none", "smtp_from": "jobfac@factory.example", **more}
    return Settings(smtp_host="127.0.0.1", smtp_port=box.port, **given)


def failure(settings: Settings, to: Recipient = TO) -> str:
    with pytest.raises(DeliveryError) as caught:
        deliver(MESSAGE, to, settings)
    return str(caught.value)


def test_a_mail_contains_text_html_and_the_end_of_the_output(box: Mailbox) -> None:
    deliver(MESSAGE, TO, through(box))
    (mail,) = box.mails
    assert mail["Subject"] == "[jobfac] orders-export failed: exit code 3"
    assert (mail["From"], mail["To"]) == ("jobfac@factory.example", "ops@example.org")
    assert (mail["JobFac-Id"], mail["Message-ID"]) == ("7.2.failed.abc", "<7.2.failed.abc@factory.example>")
    text = part(mail, "plain")
    assert "job orders-export, run 7" in text
    assert "exit_code     3" in text
    assert "exit_message  <no> & 'rows'" in text
    assert MESSAGE.output in text
    page = part(mail, "html")
    assert "<tr><th>exit_message</th><td>&lt;no&gt; &amp; &#x27;rows&#x27;</td></tr>" in page
    assert "&lt;b&gt;last&lt;/b&gt; line: $HOME Ärger" in page


def test_control_characters_of_a_program_are_not_in_the_mail(box: Mailbox) -> None:
    """Mail servers refuse a NUL, after they have taken the mail."""
    deliver(MESSAGE._replace(output="u\0t\0f\n\x1b[31mred\n"), TO, through(box))
    (mail,) = box.mails
    assert "u\\x00t\\x00f\n\\x1b[31mred\n" in part(mail, "plain")
    assert b"\0" not in mail.as_bytes()


def test_a_repeated_mail_has_the_same_id(box: Mailbox) -> None:
    for _ in range(2):
        deliver(MESSAGE, TO, through(box))
    assert len({mail["Message-ID"] for mail in box.mails}) == 1


@pytest.mark.parametrize("quit_answer", ["421 shutting down", "250 bye", "nonsense"])
def test_a_mail_that_the_server_has_taken_is_delivered_however_it_takes_leave(box: Mailbox, quit_answer: str) -> None:
    box.quit_answer = quit_answer
    deliver(MESSAGE, TO, through(box))
    assert len(box.mails) == 1


def test_a_server_may_take_its_time_before_it_takes_the_mail(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for spam. A mail that is taken for a failure comes ten times."""
    monkeypatch.setattr("jobfac.channels.email.TIMEOUT", 0.25)
    box.data_pause = 0.4
    deliver(MESSAGE, TO, through(box))
    assert len(box.mails) == 1


def test_a_header_contains_no_line_end(box: Mailbox) -> None:
    reason = "two\r\nBcc: all@example.org\nlines"
    deliver(Message("x", "failed", {**BODY, "reason": reason}), TO, through(box))
    assert box.mails[0]["Subject"] == "[jobfac] orders-export failed: two Bcc: all@example.org lines"
    assert box.mails[0]["Bcc"] is None


@pytest.mark.parametrize(
    "reason",
    [
        "=?utf-8?q?x=0d=0aBcc:_all@example.org?=",
        "=?utf-8?q?=0a=0aforged?=",
        "a =?utf-7?q?+AA0ACg-Bcc:x?= b",
        "=?x?q?=ff?=",
    ],
)
def test_an_encoded_word_of_a_program_adds_no_header(box: Mailbox, reason: str) -> None:
    """Python's email package decodes it, line ends included."""
    deliver(Message("x", "failed", {**BODY, "reason": reason}), TO, through(box))
    (mail,) = box.mails
    assert mail["Subject"].strip() == f"[jobfac] orders-export failed: {reason.replace('=?', '= ?')}"
    assert (mail["Bcc"], mail["JobFac-Id"]) == (None, "x")
    assert "forged" not in part(mail, "plain").splitlines()


def test_control_characters_of_a_program_are_not_in_the_subject(box: Mailbox) -> None:
    deliver(Message("x", "failed", {**BODY, "reason": "a\x1b[31m\x07b\x7f"}), TO, through(box))
    assert box.mails[0]["Subject"] == "[jobfac] orders-export failed: a [31m b"


def test_a_refused_address_is_named(box: Mailbox) -> None:
    box.answer = lambda address: "550 no such mailbox"
    assert failure(through(box)) == f"127.0.0.1:{box.port} refused ops@example.org: 550 no such mailbox"


def test_what_no_mail_can_have_is_said(box: Mailbox) -> None:
    for word in ("x:;@y", "=?utf-8?q?a=0d=0aBcc:b?=@example.org"):
        to = Recipient.model_validate({"email": word})
        assert failure(through(box), to) == f"no mail can be sent to {word}: it is not an address"
    settings = through(box, smtp_user="jobfac", smtp_password="geheim-§")
    assert "may have ASCII characters only" in failure(settings)


def test_a_template_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "subject.txt").write_text("$job: $state", encoding="utf-8-sig")
    assert render.subject(MESSAGE, str(tmp_path)) == "orders-export: failed"


def test_an_unreachable_or_unknown_server_is_named(box: Mailbox) -> None:
    assert failure(Settings()) == "no mail server is known; set JOBFAC_SMTP_HOST where the scheduler runs"
    settings = through(box)
    box.close()
    assert "cannot be used" in failure(settings)


def test_mail_is_sent_unencrypted_only_if_configured(box: Mailbox) -> None:
    assert "offers no STARTTLS; set smtp_tls to none" in failure(through(box, smtp_tls="starttls"))
    assert "cannot be used" in failure(through(box, smtp_tls="tls"))
    assert box.mails == []


def test_a_failed_login_does_not_reveal_the_password(tmp_path: Path) -> None:
    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"me", b"s3cret"), handled=False)

    (tmp_path / "password").write_text("s3cret\n")
    with mailbox(authenticator=check, auth_require_tls=False) as box:
        expected = failure(through(box, smtp_user="me", smtp_password="wrong-one"))
        assert "does not let smtp_user 'me' in (535)" in expected
        assert "wrong-one" not in expected
        deliver(MESSAGE, TO, through(box, smtp_user="me", smtp_password=f"file:{tmp_path}/password"))
        assert len(box.mails) == 1


def test_templates_can_be_replaced_one_by_one(box: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "subject.txt").write_text("$$ ${job}/$run: $state\n")
    (tmp_path / "body.html").write_text("<p>$exit_message $arguments</p>")
    deliver(MESSAGE, TO, through(box, templates=str(tmp_path)))
    (mail,) = box.mails
    assert mail["Subject"] == "$ orders-export/7: failed"
    assert part(mail, "html").strip() == "<p>&lt;no&gt; &amp; &#x27;rows&#x27; [&quot;--full&quot;]</p>"
    assert "exit_code     3" in part(mail, "plain")


def test_a_template_may_name_what_an_event_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text("$job <$state> <$run> <$link> <$due_at> <$failures> <$hold>")
    bodies: dict[str, dict[str, Any]] = {
        "overdue": {"job": "a", "due_at": "06:00", "overdue_at": "06:00", "since": "yesterday"},
        "paused": {"job": "a", "schedules": ["1"], "failures": 3},
        "missed": {"job": "a", "schedule": "1", "since": "a", "until": "b"},
        "held": {"job": "a", "hold": {"id": 1}},
    }
    said = {event: render.text(Message("1", event, body), str(tmp_path)) for event, body in bodies.items()}
    assert said == {
        "overdue": "a <> <> <> <06:00> <> <>\n",
        "paused": "a <> <> <> <> <3> <>\n",
        "missed": "a <> <> <> <> <> <>\n",
        "held": 'a <> <> <> <> <> <{"id": 1}>\n',
    }
    assert render.text(MESSAGE, str(tmp_path)) == "orders-export <failed> <7> <> <> <> <>\n"


@pytest.mark.parametrize(
    ("template", "expected"), [("$nothing", r"has \$nothing; it may have \$about, "), ("$", "cannot be used")]
)
def test_an_invalid_template_is_named(template: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "body.txt").write_text(template)
    with pytest.raises(DeliveryError, match=rf"the template {tmp_path}/body\.txt {expected}"):
        render.text(MESSAGE, str(tmp_path))


def test_there_is_a_sentence_for_every_event_but_finished() -> None:
    from typing import get_args

    from jobfac.definitions.notify import Event

    assert set(render.SENTENCES) == set(get_args(Event)) - {"finished"}


def test_a_missed_time_has_a_sentence() -> None:
    body = {"job": "nightly", "schedule": "1", "since": "a", "until": "b", "event": "missed", "detail": "why"}
    text = render.text(Message("event1.missed.x", "missed", body), "")
    assert text.startswith("nightly missed its time: why\n\njob nightly\n")


@APPRISE
def test_a_service_of_apprise_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apprise.URLBase.socket_read_timeout", 0.1)

    def answer(post: Post) -> int:
        time.sleep(0.3)
        return OK

    with receiving() as receiver:
        receiver.answer = answer
        to = Recipient.model_validate({"apprise": f"json://127.0.0.1:{receiver.port}/hook"})
        deliver(MESSAGE, to, Settings())


@APPRISE
def test_apprise_sends_title_and_text() -> None:
    with receiving() as receiver:
        to = Recipient.model_validate({"apprise": f"json://127.0.0.1:{receiver.port}/hook"})
        deliver(MESSAGE, to, Settings())
        (post,) = receiver.posts
        assert post.path == "/hook"
        assert b"[jobfac] orders-export failed: exit code 3" in post.body
        assert b"7.2.failed.abc" in post.body
        receiver.answer = lambda post: 500
        assert failure(Settings(), to) == "the service behind json:// did not take the message"


def as_in_newer_versions(*given: Any) -> int:
    """From 3.12 on, Python reports each new thread, and what sends a mail may begin none."""
    sys.audit("_thread.start_new_thread", *given)
    return _thread.start_new_thread(*given)


def test_a_mail_does_not_wait_for_a_name_server(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which machines ask for their own name, and which may not answer."""
    answers = threading.Event()
    silent = SimpleNamespace(getfqdn=lambda: answers.wait() and "too.late.example", gethostname=socket.gethostname)
    monkeypatch.setattr(email, "socket", silent)
    monkeypatch.setattr(email, "NAME", 0.05)
    monkeypatch.setattr(threads, "start_new_thread", as_in_newer_versions)
    deliver(MESSAGE, TO, through(box, smtp_from=None))
    answers.set()
    (mail,) = box.mails
    assert mail["From"] == f"jobfac@{socket.gethostname()}"


@APPRISE
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nosuch://token", "nosuch:// is not among the allowed services; add it to apprise_schemes"),
        ("gotify://host", "apprise cannot use this gotify:// URL"),
        ("json://169.254.169.254/", "link-local or metadata address"),
        ("jsons://[fe80::1]/", "link-local or metadata address"),
    ],
)
def test_an_unusable_apprise_url_is_explained(url: str, expected: str) -> None:
    assert expected in failure(Settings(), Recipient.model_validate({"apprise": url}))


@APPRISE
@pytest.mark.parametrize("secret", ["110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "a/token://a", ""])
def test_a_secret_that_is_no_url_is_not_shown(secret: str, tmp_path: Path) -> None:
    kept = tmp_path / "token"
    kept.write_text(secret)
    error = failure(Settings(apprise_schemes="*"), Recipient.model_validate({"apprise": {"secret": f"file:{kept}"}}))
    assert error == "the apprise URL cannot be used: it must begin with the service and ://, as in slack://"


def test_settings_of_notifications_are_checked() -> None:
    assert load({"JOBFAC_WEBHOOK_ALLOW_LOCAL": "yes"}).webhook_allow_local is True
    assert load({"JOBFAC_WEBHOOK_ALLOW_LOCAL": "false"}).webhook_allow_local is False
    with pytest.raises(SettingsError, match="JOBFAC_WEBHOOK_ALLOW_LOCAL must be true or false, not 'maybe'"):
        load({"JOBFAC_WEBHOOK_ALLOW_LOCAL": "maybe"})
    with pytest.raises(SettingsError, match="JOBFAC_SMTP_TLS must be starttls, tls or none, not 'ssl'"):
        load({"JOBFAC_SMTP_TLS": "ssl"})
