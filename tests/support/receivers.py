"""Receivers of notifications: a real mail server, and a real HTTP server with answers defined by the test."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.controller import UnthreadedController

OK = 204


class Post(NamedTuple):
    """A received request. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """An HTTP server on loopback. ``answer`` returns a post's status, or None to stall until ``release``."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answer: Callable[[Post], int | None] = lambda post: OK
        self.stalled = threading.Event()
        self._released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:  # the sender was killed between head and body: ignore it
                    self.close_connection = True
                    return
                post = Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.posts.append(post)
                status = receiver.answer(post)
                if status is None:
                    receiver.stalled.set()
                    receiver._released.wait()
                self.send_response(status or OK)
                if 300 <= (status or OK) < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                """Log nothing, because ``posts`` records all requests."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Ignore errors: tests disconnect senders on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def wrap(self, context: Any) -> None:
        """Use TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def release(self) -> None:
        """Answer the stalled requests."""
        self._released.set()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Mailbox:
    """An SMTP server on loopback. ``answer`` may refuse a recipient; ``settings`` let jobfac send to it.

    ``quit_answer`` is its answer to QUIT. It thinks for ``data_pause`` seconds before it says that it has taken a mail.
    """

    def __init__(self, **options: Any) -> None:
        self.mails: list[EmailMessage] = []
        self.answer: Callable[[str], str] = lambda address: "250 OK"
        self.quit_answer = "221 Bye"
        self.data_pause = 0.0
        self._loop = asyncio.new_event_loop()
        self._controller = UnthreadedController(self, hostname="127.0.0.1", port=0, loop=self._loop, **options)
        self._controller.begin()
        listener = self._controller.server
        assert isinstance(listener, asyncio.Server)
        self.port: int = listener.sockets[0].getsockname()[1]
        self.settings = {
            "JOBFAC_SMTP_HOST": "127.0.0.1", "JOBFAC_SMTP_PORT": str(self.port), "JOBFAC_SMTP_TLS": "none"
        }  # fmt: skip
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        self._thread.start()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        answer = self.answer(address)
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        await asyncio.sleep(self.data_pause)
        return "250 OK"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        return self.quit_answer

    def close(self) -> None:
        """Stop listening. A second call does nothing."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._controller.end()
        self._loop.close()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that is closed at the end of the block."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()


@contextmanager
def mailbox(**options: Any) -> Iterator[Mailbox]:
    """A mail server that is closed at the end of the block."""
    box = Mailbox(**options)
    try:
        yield box
    finally:
        box.close()


def part(mail: EmailMessage, kind: str) -> str:
    """The plain or html part of a mail."""
    found = mail.get_body((kind,))
    assert isinstance(found, EmailMessage)
    return str(found.get_content()).replace("\r\n", "\n")
