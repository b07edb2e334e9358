"""The API conforms to its OpenAPI document."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobfac.api import TABLE, openapi
from tests.support.api_stage import Served

CONFORMANCE = Path(__file__).with_name("openapi_conformance.py")
PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_the_api_conforms_to_its_document(part: int, tmp_path: Path) -> None:
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
    env = os.environ | {"JOBFAC_TEST_PART": f"{part}/{PARTS}"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    paths = list(openapi.document(TABLE)["paths"].values())[part::PARTS]
    assert int(passed[1]) == sum(len(methods) for methods in paths)


def test_the_document_is_served(served: Served) -> None:
    assert served.client(None).get("/openapi.json").json() == openapi.document(TABLE)
