"""The commands' way to jobfac through its API."""

import base64
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from jobfac.cli.client.protocol import RunFilter, Text
from jobfac.cli.common import USAGE, Failure
from jobfac.errors import Kind, NotFound, Refused, Unreachable
from jobfac.states import FINAL, JobKind
from jobfac.store.runs import Stopped
from jobfac.views.jobs import JobView
from jobfac.views.overview import Overview
from jobfac.views.runs import AttemptView, EventView, RunHistory, RunView
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.sequences import StepVisitView
from jobfac.views.serialization import View, from_json
from jobfac.views.workers import WorkerView

Object = dict[str, Any]
"""A JSON object."""

HOLD = 30.0
"""Seconds for which one request waits for a run's end at most."""

RETRY_FOR = 15.0
"""Seconds for which a request is repeated while the API is away or busy, where repeating it does no harm."""

PAUSE = 0.5
"""Seconds between two tries."""

HEADER = re.compile(r"[\x21-\x7e]+")
"""What a header can hold of a key."""

PAGE = 500
"""Runs or jobs in one request at most."""


class Remote:
    """See ``Backend``; other commands need the database itself."""

    def __init__(self, url: str, key: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise Failure(USAGE, f"JOBFAC_API_URL must begin with https:// or http://, not '{url}'.")
        if not key:
            raise Failure(USAGE, "JOBFAC_API_URL is set, so set JOBFAC_API_KEY to a key made by `jobfac keys create`.")
        if not HEADER.fullmatch(key):
            raise Failure(USAGE, "JOBFAC_API_KEY is not a key as `jobfac keys create` makes them; set it to one.")
        self._url = url
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(HOLD + 30)
        )

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> list[RunView]:
        if key is not None and not (HEADER.fullmatch(key) and len(key) <= 200):
            raise Failure(
                USAGE,
                "--key must be at most 200 letters, digits and signs of ASCII, without spaces, since the API takes it "
                f"as a header, not '{key}'.",
            )
        overrides = options.get("overrides") or {}
        body = {
            name: options[name]
            for name in ("arguments", "payload", "parameters", "priority", "delay")
            if options.get(name) is not None
        }
        if options.get("at") is not None:
            body["at"] = options["at"].isoformat()
        body |= overrides
        keys = [key or uuid4().hex for _ in range(count)] if key is None or count == 1 else _numbered(key, count)
        return [self._start(job, body, one) for one in keys]

    def _start(self, job: str, body: Object, key: str) -> RunView:
        answer = self._send(
            "POST", f"/v1/jobs/{quote(job, safe='')}/runs", again=True, json=body, headers={"Idempotency-Key": key}
        )
        if answer.status_code == 409 and (denied := answer.json().get("run_id")):
            return self.wait(denied, 0)
        return from_json(RunView, self._read(answer))

    def run(self, run_id: int) -> RunHistory:
        run = self.wait(run_id, 0)
        attempts = self._list(AttemptView, f"/v1/runs/{run_id}/attempts")
        events = self._list(EventView, f"/v1/runs/{run_id}/events")
        is_sequence = run.kind is JobKind.SEQUENCE
        path = self._list(StepVisitView, f"/v1/runs/{run_id}/path") if is_sequence else None
        return RunHistory(run, attempts, events, path)

    def wait(self, run_id: int, seconds: float) -> RunView:
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            run = from_json(RunView, self._get(f"/v1/runs/{run_id}", wait=round(min(left, HOLD), 3)))
            if run.state in FINAL or left <= HOLD:
                return run

    def runs(self, filters: RunFilter) -> list[RunView]:
        since = None if filters.since is None else filters.since.isoformat()
        pairs = [f"{name}={value}" for name, value in filters.parameters.items()]
        known = {"job": filters.job, "state": list(filters.states), "since": since, "parameter": pairs}
        query = {name: value for name, value in known.items() if value}
        return [from_json(RunView, one) for one in self._pages("/v1/runs", filters.limit, query)]

    def stop(self, run_id: int, now: bool) -> Stopped:
        answer = self._send("POST", f"/v1/runs/{run_id}/stop", again=True, json={"now": now})
        return from_json(Stopped, self._read(answer))

    def retry(self, run_id: int, from_failed: bool, changes: Mapping[str, Any]) -> RunView:
        body: Object = {"from_failed": from_failed, **({"parameters": changes} if changes else {})}
        headers = {"Idempotency-Key": uuid4().hex}
        answer = self._send("POST", f"/v1/runs/{run_id}/retry", again=True, json=body, headers=headers)
        if answer.status_code == 409 and (denied := answer.json().get("run_id")):
            return self.wait(denied, 0)
        return from_json(RunView, self._read(answer))

    def approve(self, run_id: int, step: str, approved: bool, reason: str | None) -> str:
        path = f"/v1/runs/{run_id}/steps/{quote(step, safe='')}/approve"
        body: Object = {"approved": approved, **({} if reason is None else {"reason": reason})}
        return str(self._read(self._send("POST", path, again=True, json=body))["decision"])

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        query: Object = {"after": f"{attempt}:{positions.get('stdout', 0)}:{positions.get('stderr', 0)}"}
        if len(positions) == 1:
            query["stream"] = next(iter(positions))
        answer = self._send(
            "GET", f"/v1/runs/{run_id}/output", again=True, params=query, headers={"Accept": "application/json"}
        )
        page = self._read(answer)
        pieces = []
        for piece in page["pieces"]:
            data = base64.b64decode(piece["data"])
            pieces.append(Text(piece["stream"], data, piece["skipped"]))
            positions[piece["stream"]] = piece["offset"] + len(data)
        return pieces

    def jobs(self) -> list[JobView]:
        listed = self._pages("/v1/jobs", None, {})
        return [self.job(one["id"]) if one["truncated"] else from_json(JobView, one) for one in listed]

    def job(self, job_id: str) -> JobView:
        return from_json(JobView, self._get(f"/v1/jobs/{quote(job_id, safe='')}"))

    def defaults(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._get("/v1/defaults")["defaults"]
        return found

    def enable(self, job_id: str, enabled: bool) -> None:
        self._read(
            self._send("POST", f"/v1/jobs/{quote(job_id, safe='')}/{'enable' if enabled else 'disable'}", again=True)
        )

    def delete(self, job_id: str) -> None:
        self._read(self._send("DELETE", f"/v1/jobs/{quote(job_id, safe='')}", again=False))

    def workers(self, alive_only: bool) -> list[WorkerView]:
        return self._list(WorkerView, "/v1/workers", all="false" if alive_only else "true")

    def drain(self, worker_id: int) -> None:
        self._read(self._send("POST", f"/v1/workers/{worker_id}/drain", again=True))

    def schedules(self, job: str | None) -> list[ScheduleView]:
        found = self._get("/v1/schedules", **({} if job is None else {"job": job}))["items"]
        return [from_json(ScheduleView, one | {"definition": {}} if one["truncated"] else one) for one in found]

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> list[CandidateView]:
        query: Object = {"job": job, "count": count, "explain": "true" if explain else "false"}
        if start is not None:
            query["from"] = start.isoformat()
        return self._list(CandidateView, "/v1/schedules/preview", **query)

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        from jobfac.store.schedules import no_schedule

        found = self.schedules(job)
        chosen = [one for one in found if name in (None, one.name)]
        if not chosen:
            self.job(job)  # which raises if there is none
            raise no_schedule(job, name, [one.name for one in found])
        changing = [one for one in chosen if one.paused != paused]
        for one in changing:
            call = f"/v1/schedules/{one.id}/{'pause' if paused else 'resume'}"
            self._read(self._send("POST", call, again=True))
        return [one.name for one in changing]

    def overview(self) -> Overview:
        return from_json(Overview, self._get("/v1/overview"))

    def _pages(self, path: str, limit: int | None, query: Mapping[str, Any]) -> list[Object]:
        """All items, or the first ``limit``, page after page."""
        found: list[Object] = []
        page: Object = {"next_cursor": None}
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            cursor = {} if page["next_cursor"] is None else {"cursor": page["next_cursor"]}
            page = self._get(path, **query, **cursor, limit=size)
            found += page["items"]
            if page["next_cursor"] is None:
                break
        return found

    def _list(self, view: type[View], path: str, **query: Any) -> list[View]:
        return [from_json(view, item) for item in self._get(path, **query)["items"]]

    def _get(self, path: str, **query: Any) -> Object:
        return self._read(self._send("GET", path, again=True, params=query))

    def _send(self, method: str, path: str, again: bool, **options: Any) -> httpx.Response:
        """One request; with ``again`` repeated while the API, or its database, is away.

        Raises:
            Unreachable: it stayed away.
        """
        end = time.monotonic() + (RETRY_FOR if again else 0.0)
        while True:
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if time.monotonic() >= end:
                    raise Unreachable(
                        f"The API at {self._url} cannot be reached: {error}. Check JOBFAC_API_URL and the server."
                    ) from None
            else:
                if answer.status_code != 503 or time.monotonic() >= end:
                    return answer
            time.sleep(PAUSE)

    def _read(self, answer: httpx.Response) -> Object:
        """The answer's JSON object, empty if it has none, or the exception that stands for its problem."""
        if answer.is_success:
            return dict(answer.json()) if answer.content else {}
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = f"{self._url} answered {answer.status_code} and is perhaps no API of jobfac; check JOBFAC_API_URL."
        if answer.status_code >= 500:
            raise Unreachable(detail)
        kind = Kind.of_status(answer.status_code) or Kind.INVALID
        known = {one.kind: one for one in (NotFound, Refused)}
        raise known[kind](detail) if kind in known else Failure(kind.exit_code, detail)


def _numbered(key: str, count: int) -> list[str]:
    """A key for each of many equal runs, the same at every call."""
    common = hashlib.sha256(key.encode()).hexdigest()
    return [f"many-{common}-{number}" for number in range(count)]
