"""The blocks of the guide's pages, and the script that types a page.

    python -m tests.roles.guide.pages TOPIC...

types pages into bash, each in a folder of its own, with this environment's `jobfac`: what a user does who copies every
block. It needs only what jobfac itself needs, so `scripts/deploy/rehearse.sh` runs it on a bare machine.
"""

import itertools
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from jobfac.database.engine import Database
from jobfac.guide import page
from tests.roles.guide.stages import NOT_HERE, STAGES, Stage
from tests.support.terminal import type_into_bash, typed

RUN = {"console", "sh", "yaml", "toml", "python"}
"""Kinds of blocks that are typed. SQL is executed by tests/database/tsql/test_documents.py and tests/sqljob."""


class Block(NamedTuple):
    """A block of a page: the word after its fence, and its text."""

    kind: str
    text: str

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]


def blocks(topic: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page(topic), re.MULTILINE)]


def runs_here(topic: str) -> list[Block]:
    return [block for block in blocks(topic) if block.kind in RUN and (topic, block.first) not in NOT_HERE]


def script(topic: str, stage: Stage) -> str:
    """Convert a page to a script: YAML becomes jobs.yaml, and the lines of commands are typed."""
    parts = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null && wait || true' EXIT", stage.script]
    for (kind, text), after in itertools.pairwise([*runs_here(topic), Block("", "")]):
        if kind == "yaml":
            parts.append(f"cat > jobs.yaml <<'END'\n{text}END")
            parts += [] if "jobfac apply jobs.yaml" in after.text else ["jobfac apply jobs.yaml --dry-run > plan"]
        elif kind == "toml":
            parts.append(f"cat > jobfac.toml <<'END'\n{text}END\njobfac config")
        elif kind == "python":
            parts.append(f"{sys.executable} - <<'END'\n{stage.python}{text}END")
        else:
            parts.append(typed(text))
    return "\n".join(parts)


def prepare(stage: Stage, folder: Path) -> None:
    """Put what a page presupposes into its folder, which has a database."""
    db = Database(f"sqlite:///{folder / 'jobfac.db'}")
    stage.database(db)
    db.close()
    for name, text in stage.files.items():
        (folder / name).write_text(text, encoding="utf-8")


def type_page(topic: str, folder: Path) -> str | None:
    """Type a page into bash in an empty folder; returns its output if it failed."""
    stage = STAGES[topic]
    db = Database(f"sqlite:///{folder / 'jobfac.db'}")
    db.upgrade()
    db.close()
    prepare(stage, folder)
    programs = folder / ".programs"
    programs.mkdir()
    for name, text in stage.programs.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    text = f"PATH={programs}:$PATH\n{script(topic, stage)}".replace("8420", port)
    done = type_into_bash(text, folder, 900, JOBFAC_API_PORT=port, JOBFAC_DRAIN_LIMIT="0")
    output = done.stdout + done.stderr
    if done.returncode == 0 and all(part in output for part in stage.prints):
        return None
    return f"exit {done.returncode}, wanted {stage.prints}\n{output}"


def main() -> int:
    failed = 0
    for topic in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            fault = type_page(topic, Path(folder))
        print(f"{topic}: {fault or 'every block works'}", flush=True)
        failed += fault is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
