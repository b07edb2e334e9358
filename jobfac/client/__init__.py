"""A client for programs: start jobs over HTTP, wait for their end, read their output, stop them.

    from jobfac.client import Client

    with Client("https://jobs.example.com", key) as client:
        run = client.start("load-orders", payload={"day": "2026-11-25"}, idempotency_key="orders-2026-11-25")
        run = client.wait(run.id, timeout=3600)
        if run.state != "succeeded":
            raise SystemExit(f"{run.reason}\\n{client.output(run.id)}")

Every method is synchronous and may be called by several threads. While the API or its database is away, a request is
repeated for ``retry_for`` seconds. A repeated start begins no second run: it has an idempotency key.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from time import monotonic, sleep
from typing import Any, Literal, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import httpx

from jobfac.client.transport import HEADER_VALUE, LARGEST, MAX_WAIT, RETRY_FOR, ApiTransport, ProblemError, problem_of
from jobfac.errors import Kind
from jobfac.settings.passwords import without_password
from jobfac.states import FINAL
from jobfac.views.runs import RunView

__all__ = ["Client", "Piece", "ProblemError", "RunView"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before a stream is resumed that ended without an event: the first time, and at most."""

Stream = Literal["stdout", "stderr"]


class Piece(NamedTuple):
    """Text that a run's program wrote. ``skipped``: bytes before it that were cut by the job's output limit."""

    attempt: int
    stream: Stream
    text: str
    skipped: int


class Client:
    """The API of jobfac.

    Args:
        url: where the API listens; default: ``JOBFAC_API_URL``.
        key: a key as ``jobfac keys create`` prints it; default: ``JOBFAC_API_KEY``.
        retry_for: seconds for which a request is repeated while the API or its database is away.

    Raises:
        ValueError: there is no URL or no key, or the key contains a blank or the end of a line.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, retry_for: float = RETRY_FOR) -> None:
        self.url = (url or os.environ.get("JOBFAC_API_URL", "")).rstrip("/")
        key = key or os.environ.get("JOBFAC_API_KEY", "")
        if not self.url.startswith(("http://", "https://")):
            shown = without_password(self.url)
            raise ValueError(f"The URL of the API must begin with https:// or http://, not {shown!r}.")
        if not key:
            raise ValueError("A key is needed; `jobfac keys create --role operator` makes one.")
        if not HEADER_VALUE.fullmatch(key):
            raise ValueError("The key is none of `jobfac keys create`: it may end with a blank or a new line.")
        self._api = ApiTransport(self.url, key, retry_for=retry_for)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def start(
        self,
        job: str,
        *,
        arguments: Sequence[str] | None = None,
        payload: Any = None,
        priority: int | None = None,
        delay: float | str | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> RunView:
        """Start a job.

        Args:
            arguments: replace those of the definition.
            payload: text, or a value that becomes JSON.
            delay: seconds, or a duration such as ``10m``.
            at: when it starts, with an offset.
            idempotency_key: the same key gives the same run, however often the program that starts it is repeated.
                Default: a new key, which makes this one call safe to repeat.

        Returns:
            The run; with ``each_worker`` that of the first worker alone. Its state is ``denied`` if the job allows one
            run at a time and another is under way.

        Raises:
            ProblemError: the API refused the start, for example because there is no such job.
            TypeError, ValueError: ``arguments`` is one text, or the key is blank.
            Unreachable: the API stayed away.
        """
        if isinstance(arguments, str):  # its letters would be the arguments
            raise TypeError("arguments are a list of texts, not one text; shlex.split makes them of a command line")
        _check_key(idempotency_key)
        values = {
            "arguments": None if arguments is None else list(arguments),
            "payload": payload if payload is None or isinstance(payload, str) else json.dumps(payload),
            "priority": priority,
            "delay": delay,
            "at": None if at is None else at.isoformat(),
        }
        response = self._api.send(
            "POST",
            f"/v1/jobs/{quote(job, safe='')}/runs",
            repeatable=True,
            json={name: value for name, value in values.items() if value is not None},
            headers={"Idempotency-Key": idempotency_key or uuid4().hex},
        )
        if response.status_code == Kind.CONFLICT.status and (denied := problem_of(response).get("run_id")):
            return self.run(denied)
        return self._api.view(RunView, self._api.read(response))

    def run(self, run_id: int) -> RunView:
        """Return a run as it is now.

        Raises:
            ProblemError: there is no such run, or the key may not see it.
            Unreachable: the API stayed away.
        """
        return self._api.view(RunView, self._api.get(f"/v1/runs/{run_id}"))

    def wait(self, run_id: int, timeout: float | None = None) -> RunView:
        """Wait until a run has ended, and return it. The answer comes within a fraction of a second after the end.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: it has not ended in time. It goes on.
            ProblemError, Unreachable: as for ``run``.
        """
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = MAX_WAIT if end is None else max(0.0, min(MAX_WAIT, end - monotonic()))
            run = self._api.view(RunView, self._api.get(f"/v1/runs/{run_id}", wait=round(left, 3)))
            if run.state in FINAL:
                return run
            if end is not None and monotonic() >= end:
                raise TimeoutError(f"Run {run_id} of '{run.job}' is {run.state} after {timeout:g} s.")

    def output(self, run_id: int, stream: Stream = "stdout", attempt: int | None = None) -> str:
        """Return what a run's program has written so far, as far as it is stored.

        Args:
            attempt: its number; default: the latest.

        Raises:
            ProblemError, Unreachable: as for ``run``.
        """
        path = f"/v1/runs/{run_id}/output"
        query: dict[str, Any] = {"stream": stream} | ({} if attempt is None else {"attempt": attempt})
        found = bytearray()
        while True:
            response = self._api.send("GET", path, repeatable=True, params=query, headers={"Accept": "text/plain"})
            self._api.check(response)
            try:
                following = int(response.headers["Jobfac-Next-Offset"])
                found += response.content
                if not response.content or following == query.get("offset"):
                    return found.decode(response.charset_encoding or "utf-8", "replace")
                query |= {"offset": following, "attempt": int(response.headers["Jobfac-Attempt"])}
            except (KeyError, ValueError):
                raise self._api.foreign("no output of a run") from None

    def follow(self, run_id: int) -> Iterator[Piece]:
        """Yield what a run's program writes, as it comes, until the run has ended. A lost connection is resumed.

        Raises:
            ProblemError, Unreachable: as for ``run``.
        """
        last, pause = "", 0.0
        while True:
            sleep(pause)
            pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            for event, position, data in self._events(run_id, last):
                last, pause = position, 0.0
                if event == "end":
                    return
                yield self._piece(data)

    def _piece(self, data: str) -> Piece:
        try:
            value = json.loads(data)
            return Piece(value["attempt"], value["stream"], value["text"], value["skipped"])
        except (KeyError, TypeError, ValueError):
            raise self._api.foreign("no output of a run") from None

    def stop(self, run_id: int, *, now: bool = False) -> RunView:
        """Stop a run and return it. A waiting run ends at once; a running program gets its grace period.

        Args:
            now: without the grace period.

        Raises:
            ProblemError, Unreachable: as for ``run``.
        """
        self._api.call("POST", f"/v1/runs/{run_id}/stop", repeatable=True, json={"now": now})
        return self.run(run_id)

    def _events(self, run_id: int, position: str) -> Iterator[tuple[str, str, str]]:
        """Yield events of a run's output after a position: name, position, data. Ends when the connection does."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": position} if position else {})
        path = f"/v1/runs/{run_id}/output"
        response = self._api.send("GET", path, repeatable=True, stream=True, headers=headers)
        try:
            self._api.check(response)
            if response.headers.get("content-type", "").partition(";")[0] != "text/event-stream":
                raise self._api.foreign("no stream of events")
            found: dict[str, str] = {}
            for line in _lines(response.iter_text()):
                name, _, value = line.partition(": ")
                if name in ("id", "event", "data"):
                    found[name] = value
                elif not name and "event" in found:
                    position = found.get("id", position)
                    yield found["event"], position, found.get("data", "")
                    found = {}
        except httpx.TransportError:
            return  # the caller resumes at the last position
        except ValueError:
            raise self._api.foreign(f"an event of more than {LARGEST:,} characters") from None
        finally:
            response.close()


def _check_key(key: str | None) -> None:
    if key is not None and not key.strip():  # as of a variable without a value
        raise ValueError("idempotency_key must not be blank; leave it out if the program is not repeated")


def _lines(parts: Iterable[str]) -> Iterator[str]:
    r"""Yield the lines of a stream of events. They end with \n only; JSON may hold other characters that end a line.

    Raises:
        ValueError: a line is longer than ``LARGEST``.
    """
    rest = ""
    for part in parts:
        *lines, rest = (rest + part).split("\n")
        yield from lines
        if len(rest) > LARGEST:
            raise ValueError
