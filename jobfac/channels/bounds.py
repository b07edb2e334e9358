"""Limits what the library apprise does for a receiver: how much of an answer it reads, and how long it pauses.

Without a limit it reads and unpacks all of an answer in memory, pauses between the targets of a URL, which may have
thousands, and for as long as a receiver asks.

An operator may name the receiver of a notification, and the receiver may answer without end. So while the rule for
outgoing connections applies to a thread, its HTTP answers are not compressed, and neither they nor what a mail server
says are longer than ``LARGEST``.
"""

import functools
import smtplib
from collections.abc import Callable, Iterator
from typing import Any

from jobfac.channels import egress

LARGEST = 2**20
"""Bytes of an answer at most. The answers of services are a few thousand bytes long."""

WHY = f"its answer is longer than {LARGEST:,} bytes"


class _Body:
    """The body of an HTTP answer, as requests reads it. Other attributes are those of the body itself."""

    def __init__(self, body: Any, rule: egress.Rule) -> None:
        self._body = body
        self._rule = rule

    def stream(self, size: int, decode_content: bool | None = None) -> Iterator[bytes]:
        left = LARGEST
        for piece in self._body.stream(min(size, 2**14), decode_content=False):
            left -= len(piece)
            if left < 0:
                self._body.close()
                raise self._rule.refused(WHY)
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


class _Lines:
    """The lines of a mail server, as smtplib reads them."""

    def __init__(self, file: Any, rule: egress.Rule) -> None:
        self._file = file
        self._rule = rule
        self._left = LARGEST

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise self._rule.refused(WHY)
        return line

    def close(self) -> None:
        self._file.close()


@functools.cache
def install_for_mail() -> None:
    """Make smtplib obey the limits in threads to which the rule applies. Others are not changed."""
    reply = smtplib.SMTP.getreply

    def reply_bounded(server: Any) -> tuple[int, bytes]:
        rule = egress.active()
        if rule is not None and server.file is None:
            server.file = _Lines(server.sock.makefile("rb"), rule)
        try:
            return reply(server)
        except egress.AddressRefused:
            server.close()  # nobody else closes it if it has not greeted yet
            raise

    setattr(smtplib.SMTP, "getreply", reply_bounded)  # noqa: B010 (their types cannot be told)


@functools.cache
def install() -> None:
    """Make smtplib, apprise and the HTTP library of that obey the limits in the same way."""
    from apprise import URLBase
    from requests.adapters import HTTPAdapter

    install_for_mail()
    send = HTTPAdapter.send
    throttle: Callable[..., None] = URLBase.throttle

    def send_bounded(adapter: Any, request: Any, *arguments: Any, **named: Any) -> Any:
        rule = egress.active()
        if rule is None:
            return send(adapter, request, *arguments, **named)
        request.headers["Accept-Encoding"] = "identity"
        answer = send(adapter, request, *arguments, **named)
        answer.raw = _Body(answer.raw, rule)
        return answer

    def throttle_bounded(service: Any, last_io: Any = None, wait: float | None = None) -> None:
        if (rule := egress.active()) is not None:
            rule.pause(service.request_rate_per_sec if wait is None else wait)
        throttle(service, last_io, wait)

    setattr(URLBase, "throttle", throttle_bounded)  # noqa: B010 (their types cannot be told)
    setattr(HTTPAdapter, "send", send_bounded)  # noqa: B010 (their types cannot be told)
