"""The commands of the guide, executed exactly, each page in its own folder."""

import re
import shutil
from pathlib import Path

import pytest

from jobfac.guide import TOPICS, page
from tests.support.terminal import type_into_bash, typed

BLOCKS = re.compile(r"```(yaml|console)\n(.*?)```", re.DOTALL)

PAGES = [topic for topic in TOPICS if "```console" in page(topic)]

EXPECTED = {
    "definitions": ["2 to add", "2 added", "Export orders"],
    "parameters": ["2027-01-31 of us, at most 1000", "IN ITS ZONE"],
    "programs": ["half way", "working", "exit_code  0"],
    "schedules": ["3 added", "IN ITS ZONE"],
    "sql": ["   1   1200", "succeeded"],
    "sequences": ["7 added", "flowchart", "repair"],
    "output": ["one line"],
    "secrets": ["token is ***"],
    "history": ["Summary"],
    "bulk": ["nothing was changed"],
    "http": ["shop"],
}
"""Texts that the commands of each page must print."""


def script(text: str) -> str:
    """Convert a page to a script: YAML blocks become jobs.yaml, and the lines of console blocks are typed."""
    parts = ["set -e", "jobfac db upgrade"]
    for kind, block in BLOCKS.findall(text):
        parts.append(f"cat > jobs.yaml <<'END'\n{block}END" if kind == "yaml" else typed(block))
    return "\n".join(parts)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands are typed into bash")
@pytest.mark.parametrize("topic", PAGES)
def test_the_commands_of_a_page_work(topic: str, tmp_path: Path) -> None:
    done = type_into_bash(script(page(topic)), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in EXPECTED.get(topic, []):
        assert part in done.stdout + done.stderr, done.stdout + done.stderr


def test_every_page_with_commands_has_expected_texts() -> None:
    assert set(EXPECTED) == set(PAGES)
