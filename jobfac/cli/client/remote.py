"""The client over the HTTP API."""

import base64
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from jobfac.cli.client.http import PAGE
from jobfac.cli.client.remote_administration import RemoteAdministration
from jobfac.cli.client.values import Text
from jobfac.cli.common import USAGE, Failure
from jobfac.client.transport import HEADER_VALUE, MAX_WAIT, Object, problem_of
from jobfac.errors import InDoubt, Interrupted, JobfacError, Kind, so_far
from jobfac.operations.bulk.backfill import BackfillRequest
from jobfac.states import FINAL, JobKind
from jobfac.store.history.search import Filter
from jobfac.store.holds.placing import Scope
from jobfac.store.runs import Stopped
from jobfac.store.runs.request import numbered_keys
from jobfac.views.holds import HoldView
from jobfac.views.jobs import ChangeView, JobView, VersionView
from jobfac.views.overview import Overview
from jobfac.views.results.backfill import Backfill
from jobfac.views.results.load import LoadView
from jobfac.views.results.many import ManyView
from jobfac.views.results.output import OutputMatch
from jobfac.views.runs import AttemptView, EventView, NoteView, RunHistory, RunView
from jobfac.views.schedules import CandidateView, ScheduleView
from jobfac.views.sequences import StepVisitView
from jobfac.views.workers import WorkerView


class Remote(RemoteAdministration):
    """The client over the HTTP API, with the methods of ``Local``."""

    def start(self, job: str, options: Mapping[str, Any], key: str | None, count: int) -> list[RunView]:
        if key is not None and not (HEADER_VALUE.fullmatch(key) and len(key) <= 200):
            raise Failure(
                USAGE,
                "--key must be at most 200 ASCII characters without spaces, because the API takes it as a header, "
                f"not '{key}'.",
            )
        overrides = dict(options.get("overrides") or {})
        if "first_step" in overrides:
            overrides["from_step"] = overrides.pop("first_step")
        body = {
            name: options[name]
            for name in ("arguments", "payload", "parameters", "priority", "delay")
            if options.get(name) is not None
        }
        if options.get("at") is not None:
            body["at"] = options["at"].isoformat()
        body |= overrides
        key = key or uuid4().hex
        keys = [key] if count == 1 else numbered_keys(key, range(count))
        rest = f"the key '{key}' with the same count starts the others."
        runs: list[RunView] = []
        for run_key in keys:
            try:
                runs += self._start(job, body, run_key)
            except JobfacError as error:
                why, is_doubtful = str(error).replace(run_key, key), isinstance(error, InDoubt)
                if is_doubtful and count == 1:
                    why += f" `--key {key}` repeats the start without a second run."
                elif runs or is_doubtful:
                    why += f" {so_far(len(runs), count, error)}{rest}"
                elif why == str(error):
                    raise
                raise Failure(error.exit_code, why) from error
            except KeyboardInterrupt as error:
                many = f"{so_far(len(runs), count, error)}{rest}"
                one = f"the start may have been done; `--key {key}` repeats it without a second run."
                raise Interrupted(f"Interrupted: {one if count == 1 else many}") from None
        return runs

    def _start(self, job: str, body: Object, key: str) -> list[RunView]:
        path, headers = f"/v1/jobs/{quote(job, safe='')}/runs", {"Idempotency-Key": key}
        return self._started(self._api.send("POST", path, repeatable=True, json=body, headers=headers))

    def _started(self, response: httpx.Response) -> list[RunView]:
        """Return the run that a request started, or its denied run; of a job with ``each_worker`` all runs."""
        if response.status_code == Kind.CONFLICT.status and (denied := problem_of(response).get("run_id")):
            return [self.wait(denied, 0)]
        first = self._api.read(response)
        return [self._api.view(RunView, run) for run in first.get("runs", [first])]

    def run(self, run_id: int) -> RunHistory:
        run = self._api.view(RunView, self._api.get(f"/v1/runs/{run_id}"))
        attempts = self._list(AttemptView, f"/v1/runs/{run_id}/attempts")
        events = self._list(EventView, f"/v1/runs/{run_id}/events")
        is_sequence = run.kind is JobKind.SEQUENCE
        path = self._list(StepVisitView, f"/v1/runs/{run_id}/path") if is_sequence else None
        notes = self._paged(NoteView, f"/v1/runs/{run_id}/notes", None, {})
        changes = self._list(ChangeView, f"/v1/runs/{run_id}/changes")
        return RunHistory(run, attempts, events, path, notes or None, changes or None)

    def wait(self, run_id: int, seconds: float) -> RunView:
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            # A script may log what it waits for, so sensitive values are masked, as over the database.
            answer = self._api.get(f"/v1/runs/{run_id}", wait=round(min(left, MAX_WAIT), 3), masked="true")
            run = self._api.view(RunView, answer)
            if run.state in FINAL or left <= MAX_WAIT:
                return run

    def runs(self, wanted: Filter, limit: int) -> list[RunView]:
        return self._paged(RunView, "/v1/runs", limit, _filter(wanted))

    def choose_to_retry(self, wanted: Filter, limit: int) -> list[ManyView]:
        # Each page is in order, and the pages begin with the newest.
        return sorted(self._choose("/v1/runs:retry", wanted, limit), key=lambda line: line.id)

    def choose_to_stop(self, wanted: Filter, limit: int) -> list[ManyView]:
        return sorted(self._choose("/v1/runs:stop", wanted, limit), key=lambda line: line.stop_order)

    def choose_to_acknowledge(self, wanted: Filter, limit: int) -> list[ManyView]:
        return self._choose("/v1/runs:acknowledge", wanted, limit)

    def _choose(self, path: str, wanted: Filter, limit: int) -> list[ManyView]:
        items: dict[int, Object] = {}  # several pages of a stop may have the same sequence, in place of its runs
        body: Object = {"filter": _filter(wanted), "dry_run": True}
        while len(items) < limit:
            body["limit"] = min(PAGE, limit - len(items))
            page = self._api.call("POST", path, repeatable=True, json=body)
            items |= {item["id"]: item for item in self._api.items(page)}
            if page.get("next_cursor") in (None, body.get("cursor")):
                break
            body["cursor"] = page["next_cursor"]
        return [self._api.view(ManyView, item) for item in items.values()]

    def retry_many(self, run_ids: Sequence[int]) -> list[ManyView]:
        return self._many("/v1/runs:retry", {"runs": list(run_ids)})

    def stop_many(self, run_ids: Sequence[int], now: bool) -> list[ManyView]:
        return self._many("/v1/runs:stop", {"runs": list(run_ids), "now": now})

    def acknowledge_many(self, run_ids: Sequence[int]) -> list[ManyView]:
        return self._many("/v1/runs:acknowledge", {"runs": list(run_ids)})

    def _many(self, path: str, body: Object) -> list[ManyView]:
        page = self._api.call("POST", path, repeatable=True, json=body)
        return [self._api.view(ManyView, item) for item in self._api.items(page)]

    def stop(self, run_id: int, now: bool) -> Stopped:
        path = f"/v1/runs/{run_id}/stop"
        return self._api.view(Stopped, self._api.call("POST", path, repeatable=True, json={"now": now}))

    def retry(self, run_id: int, from_failed: bool, changes: Mapping[str, Any]) -> RunView:
        body: Object = {"from_failed": from_failed, **({"parameters": changes} if changes else {})}
        headers = {"Idempotency-Key": uuid4().hex}
        response = self._api.send("POST", f"/v1/runs/{run_id}/retry", repeatable=True, json=body, headers=headers)
        return self._started(response)[0]

    def approve(self, run_id: int, step: str, approved: bool, reason: str | None, given: Mapping[str, Any]) -> str:
        path = f"/v1/runs/{run_id}/steps/{quote(step, safe='')}/approve"
        body: Object = {"approved": approved, **({} if reason is None else {"reason": reason})}
        body |= {"parameters": dict(given)} if given else {}
        # A repeated request must not decide about the next visit of the step.
        visits = [one.number for one in self._list(StepVisitView, f"/v1/runs/{run_id}/path") if one.step == step]
        body |= {"number": visits[-1]} if visits else {}
        return str(self._api.call("POST", path, repeatable=True, json=body)["decision"])

    def output(self, run_id: int, attempt: int, positions: dict[str, int]) -> Sequence[Text]:
        query: Object = {"after": f"{attempt}:{positions.get('stdout', 0)}:{positions.get('stderr', 0)}"}
        if len(positions) == 1:
            query["stream"] = next(iter(positions))
        path, headers = f"/v1/runs/{run_id}/output", {"Accept": "application/json"}
        page = self._api.call("GET", path, repeatable=True, params=query, headers=headers)
        pieces = []
        for piece in page["pieces"]:
            data = base64.b64decode(piece["data"])
            pieces.append(Text(piece["stream"], data, piece["skipped"]))
            positions[piece["stream"]] = piece["offset"] + len(data)
        return pieces

    def jobs(self) -> list[JobView]:
        items = self._pages("/v1/jobs", None, {})
        return [self.job(item["id"]) if item.get("truncated") else self._api.view(JobView, item) for item in items]

    def job(self, job_id: str) -> JobView:
        return self._api.view(JobView, self._api.get(f"/v1/jobs/{quote(job_id, safe='')}"))

    def defaults(self) -> dict[str, dict[str, Any]]:
        defaults: dict[str, dict[str, Any]] = self._api.get("/v1/defaults")["defaults"]
        return defaults

    def enable(self, job_id: str, enabled: bool) -> None:
        path = f"/v1/jobs/{quote(job_id, safe='')}/{'enable' if enabled else 'disable'}"
        self._api.call("POST", path, repeatable=True)

    def delete(self, job_id: str) -> None:
        self._api.call("DELETE", f"/v1/jobs/{quote(job_id, safe='')}", repeatable=False)

    def workers(self, alive_only: bool) -> list[WorkerView]:
        return self._list(WorkerView, "/v1/workers", all="false" if alive_only else "true")

    def drain(self, worker_id: int) -> None:
        self._api.call("POST", f"/v1/workers/{worker_id}/drain", repeatable=True)

    def undrain(self, worker_id: int) -> None:
        self._api.call("POST", f"/v1/workers/{worker_id}/undrain", repeatable=True)

    def schedules(self, job: str | None) -> list[ScheduleView]:
        items = self._api.items(self._api.get("/v1/schedules", **({} if job is None else {"job": job})))
        return [self._api.view(ScheduleView, self._whole(item) if item.get("truncated") else item) for item in items]

    def _whole(self, item: Object) -> Object:
        """Return a schedule with its definition, which the list has left out because it is large."""
        rules = self.job(item["job"]).definition.get("schedules", [])
        named = {rule.get("name", str(position)): rule for position, rule in enumerate(rules, start=1)}
        return item | {"definition": named.get(item["name"], {})}

    def preview(self, job: str, count: int, start: datetime | None, explain: bool) -> list[CandidateView]:
        query: Object = {"job": job, "count": count, "explain": "true" if explain else "false"}
        if start is not None:
            query["from"] = start.isoformat()
        return self._list(CandidateView, "/v1/schedules/preview", **query)

    def pause(self, job: str, name: str | None, paused: bool) -> list[str]:
        from jobfac.store.schedules import no_schedule

        schedules = self.schedules(job)
        chosen = [schedule for schedule in schedules if name in (None, schedule.name)]
        if not chosen:
            self.job(job)  # raises NotFound if the job does not exist
            raise no_schedule(job, name, [schedule.name for schedule in schedules])
        changing = [schedule for schedule in chosen if schedule.paused != paused]
        for schedule in changing:
            path = f"/v1/schedules/{schedule.id}/{'pause' if paused else 'resume'}"
            self._api.call("POST", path, repeatable=True)
        return [schedule.name for schedule in changing]

    def backfill(self, wanted: BackfillRequest, dry_run: bool) -> Backfill:
        fields = {"from": wanted.since.isoformat(), "to": wanted.until.isoformat(), "at_most": wanted.at_most}
        body: Object = {**fields, "priority": wanted.priority, "dry_run": dry_run}
        if wanted.name is not None:
            body["schedule"] = wanted.name
        path = f"/v1/jobs/{quote(wanted.job, safe='')}/backfill"
        return self._api.view(Backfill, self._api.call("POST", path, repeatable=True, json=body))

    def search_output(self, wanted: Filter, text: str, limit: int) -> list[OutputMatch]:
        query = _filter(wanted) | {"text": text}
        return self._paged(OutputMatch, "/v1/output", limit, query)[:limit]

    def load(self, days: int) -> LoadView:
        return self._api.view(LoadView, self._api.get("/v1/schedules/load", days=days))

    def hold(self, scope: Scope, reason: str, until: datetime | timedelta | None) -> HoldView:
        body = {name: value for name, value in scope._asdict().items() if value is not None} | {"reason": reason}
        if until is not None:
            body["until"] = until.isoformat() if isinstance(until, datetime) else f"{until.total_seconds():.3f}s"
        return self._api.view(HoldView, self._api.call("POST", "/v1/holds", repeatable=False, json=body))

    def release(self, hold_id: int) -> HoldView:
        return self._api.view(HoldView, self._api.call("DELETE", f"/v1/holds/{hold_id}", repeatable=True))

    def holds(self, ended: bool, limit: int) -> list[HoldView]:
        return self._paged(HoldView, "/v1/holds", limit, {"all": "true" if ended else "false"})

    def note(self, run_id: int, text: str, acknowledge: bool) -> NoteView:
        body = {"text": text, "acknowledge": acknowledge}
        return self._api.view(NoteView, self._api.call("POST", f"/v1/runs/{run_id}/notes", repeatable=False, json=body))

    def acknowledge(self, run_ids: Sequence[int]) -> list[RunView]:
        paths = [f"/v1/runs/{run_id}/acknowledge" for run_id in run_ids]
        return [self._api.view(RunView, self._api.call("POST", path, repeatable=True)) for path in paths]

    def versions(self, job_id: str) -> list[VersionView]:
        path = f"/v1/jobs/{quote(job_id, safe='')}/versions"
        return [
            self._api.view(VersionView, self._api.get(f"{path}/{item['version']}") if item.get("truncated") else item)
            for item in self._pages(path, None, {}, size=None)
        ]

    def rollback(self, job_id: str, version: int) -> JobView:
        call = f"/v1/jobs/{quote(job_id, safe='')}/rollback"
        return self._api.view(JobView, self._api.call("POST", call, repeatable=True, json={"version": version}))

    def overview(self) -> Overview:
        return self._api.view(Overview, self._api.get("/v1/overview"))


def _filter(wanted: Filter) -> Object:
    """Return the fields of a filter as parameters of a query or fields of a body."""
    written = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in wanted._asdict().items()
        if value not in (None, False) and name not in ("states", "parameters")
    }
    pairs = {"parameter": [f"{name}={value}" for name, value in wanted.parameters]} if wanted.parameters else {}
    return written | ({"state": list(wanted.states)} if wanted.states else {}) | pairs
