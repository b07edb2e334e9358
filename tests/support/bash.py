"""Runs the commands of the documentation in bash, as a new user would."""

import os
import re
import subprocess
import sys
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without jobfac's settings, and with its commands in PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBFAC_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | more


def typed(block: str) -> str:
    """The lines of a console block without their prompts."""
    return re.sub(r"^\$ ", "", block, flags=re.MULTILINE)


def type_into_bash(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder; ``variables`` are added to the environment."""
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=150,
        check=False,
    )  # fmt: skip
