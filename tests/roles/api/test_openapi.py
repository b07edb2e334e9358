"""The API conforms to its OpenAPI document."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobfac.api import TABLE, openapi
from tests.support.api_stage import Served

CONFORMANCE = Path(__file__).with_name("openapi_conformance.py")


@pytest.mark.slow
def test_the_api_conforms_to_its_document(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        f"--basetemp={tmp_path / 'pytest'}",
        str(CONFORMANCE),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) == sum(len(methods) for methods in openapi.document(TABLE)["paths"].values())


def test_the_document_is_served(served: Served) -> None:
    for encoding, expected in (
        ("gzip", "gzip"), ("br;q=1.0, GZIP;q=0.8, *;q=0.1", "gzip"), ("gzip;q=0.01", "gzip"),
        ("identity", "identity"), ("gzip;q=0", "identity"), ("br, gzip; q=0.000, *", "identity"),
    ):  # fmt: skip
        answer = served.client(None).get("/openapi.json", headers={"Accept-Encoding": encoding})
        assert answer.headers.get("content-encoding", "identity") == expected, encoding
        assert answer.json() == openapi.document(TABLE)
