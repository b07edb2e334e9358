"""Schemathesis tries calls with all of its checks. ``test_openapi`` runs it in a process of its own.

It is not collected with the other tests, because it creates its requests while it is imported: 13 seconds of processor
time in every process of the suite. ``make fuzz`` runs it with JOBFAC_TEST_SEED, which goes deeper.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, seed, settings
from schemathesis.config import SchemathesisConfig

from jobfac.api import TABLE, openapi
from jobfac.api.auth import FailedLogins
from jobfac.api.examples import EXAMPLES, PATH_EXAMPLES
from jobfac.api.live import feed
from jobfac.database.dialects import utcnow
from jobfac.database.engine import Database
from jobfac.database.tables import api_key
from jobfac.settings import Settings
from jobfac.store import workers
from jobfac.store.api_keys import Role
from tests.support.api_stage import Served

pytest_plugins = ["schemathesis.pytest.plugin"]

KEY = f"jf_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
"""The settings are known before there is a database, because the requests are created during collection."""

STORED = {"prefix": KEY.split("_")[1], "hash": hashlib.sha256(KEY.encode()).hexdigest()}

DEEP = "JOBFAC_TEST_SEED" in os.environ
"""Whether to take two minutes for every boundary of every value, and more examples."""

CONFIG = SchemathesisConfig.from_dict(
    {
        "operations": [
            # Definitions, notifications and parameters have rules that no JSON schema can say, such as a cron line.
            {
                "include-operation-id": ["put_job", "start", "retry", "apply_definitions"],
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "409", "412", "422"]}
                },
            },
            # No schema can say which ETag the job has.
            {
                "include-operation-id": ["delete_job"],
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "409", "412"]}
                },
            },
            # No worker runs here, so a wait only times out, and an event stream runs until it is stopped.
            {"include-operation-id": ["get_run"], "parameters": {"query.wait": 0.05}},
            {"include-operation-id": ["get_events", "get_output"], "parameters": {"query.seconds": 0}},
        ],
        "phases": {"coverage": {"enabled": DEEP}},
    }
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("api")
    db = Database(f"sqlite:///{folder / 'jobfac.db'}")
    db.upgrade()
    with pytest.MonkeyPatch.context() as patch, Served(db, Settings(api_port=0)) as served:
        patch.setattr(feed, "INTERVAL", 0.01)  # each of many event streams begins with a poll
        # Create the objects that the examples refer to.
        served.define(
            "nightly", schedules=[{"cron": f"{minute} 6 * * *"} for minute in range(PATH_EXAMPLES["schedule"])]
        )
        for _ in range(PATH_EXAMPLES["run"]):
            served.start("nightly")
        who = workers.Registration("w1", "localhost", 1, "token", "0.1.0", 4, ["default"], {})
        for _ in range(PATH_EXAMPLES["worker"]):
            db.transact(workers.register, who, 600)
        # Wrong keys are tried too, more than a client may send in a minute.
        served.server.app.state.service.authenticator.failures = FailedLogins(limit=1_000_000)
        with db.begin() as conn:
            conn.execute(api_key.insert().values(created_at=utcnow(), name="tests", role=Role.ADMIN, **STORED))
        yield served
    db.close()


schema = schemathesis.openapi.from_dict(openapi.document(TABLE), config=CONFIG)


@schema.auth()
class Key:
    """Adds the key to every request, unless a check removes it."""

    def get(self, case: schemathesis.Case[Any], context: schemathesis.AuthContext) -> str:
        return KEY

    def set(self, case: schemathesis.Case[Any], data: str, context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


@pytest.fixture(autouse=True)
def example_job(served: Served) -> None:
    """Define the job again, because an earlier call may have deleted it."""
    served.define(PATH_EXAMPLES["job"], **EXAMPLES["put_job"], enabled=True)


@schema.parametrize()
@seed(int(os.environ.get("JOBFAC_TEST_SEED", "1")))
@settings(max_examples=20 if DEEP else 3, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_the_api_conforms_to_its_document(case: schemathesis.Case[Any], served: Served) -> None:
    # The header frames the request: a random value makes the request invalid HTTP, whatever the call.
    for name in [name for name in case.headers or () if name.lower() == "transfer-encoding"]:
        del case.headers[name]
    case.call_and_validate(base_url=served.url, timeout=20)
