"""Administration over the HTTP API."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from jobfac.cli.client.http import HttpApi
from jobfac.cli.client.values import MadeReport, ReportRequest
from jobfac.client.transport import Object
from jobfac.doctor import Finding
from jobfac.states import Delivery
from jobfac.store.api_keys import Created, Role
from jobfac.views.keys import KeyView, StartUrlView
from jobfac.views.notifications import NotificationView
from jobfac.views.results.plans import AppliedView


class RemoteAdministration(HttpApi):
    """What administrators do, over the HTTP API."""

    def keys(self) -> list[KeyView]:
        return self._list(KeyView, "/v1/keys")

    def create_key(self, name: str, role: Role, categories: Sequence[str] | None, lifetime: float | None) -> Created:
        limits = {"categories": categories, "lifetime": lifetime}
        body: Object = {"name": name, "role": str(role), **{key: one for key, one in limits.items() if one is not None}}
        made = self._api.call("POST", "/v1/keys", repeatable=False, json=body)
        return Created(made["id"], made["key"])

    def revoke_key(self, key_id: int) -> None:
        self._api.call("DELETE", f"/v1/keys/{key_id}", repeatable=False)

    def start_urls(self, job: str) -> list[StartUrlView]:
        return self._list(StartUrlView, f"/v1/jobs/{quote(job, safe='')}/urls")

    def create_start_url(self, job: str, name: str) -> Object:
        path = f"/v1/jobs/{quote(job, safe='')}/urls"
        return dict(self._api.call("POST", path, repeatable=False, json={"name": name}))

    def revoke_start_url(self, job: str, url_id: int | None) -> list[int]:
        path = f"/v1/jobs/{quote(job, safe='')}/urls"
        if url_id is None:
            return list(self._api.call("DELETE", path, repeatable=True)["revoked"])
        self._api.call("DELETE", f"{path}/{url_id}", repeatable=False)
        return [url_id]

    def notifications(self, state: Delivery | None, limit: int) -> list[NotificationView]:
        query: Object = {"limit": limit} | ({} if state is None else {"state": str(state)})
        return self._list(NotificationView, "/v1/notifications", **query)

    def requeue(self, ids: Sequence[int] | None) -> list[int]:
        body: Object = {} if ids is None else {"ids": list(ids)}
        path = "/v1/notifications:requeue"
        return list(self._api.call("POST", path, repeatable=True, json=body)["requeued"])

    def reports(self, names: Sequence[str], wanted: ReportRequest, spans: int | None) -> list[MadeReport]:
        from jobfac.reports.document import from_document

        query = _query(wanted) | ({} if spans is None else {"spans": spans})
        try:
            return [MadeReport(*from_document(self._api.get(f"/v1/reports/{name}", **query))) for name in names]
        except (KeyError, TypeError, ValueError):
            raise self._api.foreign("no report") from None

    def report_page(self, wanted: ReportRequest) -> str:
        response = self._api.send("GET", "/v1/reports.html", repeatable=True, params=_query(wanted))
        return response.text if response.is_success else str(self._api.read(response))

    def kept_by_purge(self) -> str | None:
        return None

    def purge(self) -> int:
        removed, more = 0, True
        while more:
            done = self._api.call("POST", "/v1/purge", repeatable=True)
            removed, more = removed + done["removed"], done["more"]
        return removed

    def doctor(self) -> list[Finding]:
        return self._list(Finding, "/v1/doctor")

    def apply(self, files: Sequence[Path], prune: bool, dry_run: bool) -> AppliedView:
        from jobfac.definitions import read_texts

        texts = [{"name": name, "text": text} for name, text in read_texts(*files).items()]
        body: Object = {"files": texts, "prune": prune, "dry_run": dry_run}
        path = "/v1/definitions:apply"
        return self._api.view(AppliedView, self._api.call("POST", path, repeatable=True, json=body))


def _query(wanted: ReportRequest) -> Object:
    fields = {name: value for name, value in wanted._asdict().items() if value is not None}
    return {name: str(value) for name, value in fields.items()}
