"""Run the five experiments on a database for tests, which is emptied, and print the report.

    python -m tests.real_server.experiments [--seconds 15] [--sizes 0,50,200000] [--workers 20] [--into FILE]

The database is that of JOBFAC_TEST_MSSQL_URL. `--sizes 0,50,5000000` takes long and needs some gigabytes. The exit code
is 0 whatever was found: a finding is an answer.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from jobfac.database.engine import Database
from jobfac.errors import JobfacError
from tests.real_server.experiments.place import Place
from tests.real_server.experiments.report import write


def main() -> int:
    """Print the report, and write it into a file if one is named; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("JOBFAC_TEST_MSSQL_URL", ""))
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each observation lasts")
    parser.add_argument("--sizes", default="0,50,200000", help="numbers of old runs with which plans are read")
    parser.add_argument("--workers", type=int, default=20, help="idle workers whose requests are counted")
    parser.add_argument("--into", type=Path, help="a file for the report")
    words = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    try:
        db = Database(words.url)
        db.upgrade()
    except JobfacError as error:
        print(f"JOBFAC_TEST_MSSQL_URL: {error}", file=sys.stderr)
        return 2
    sizes = tuple(int(size) for size in words.sizes.split(","))
    with tempfile.TemporaryDirectory(prefix="jobfac-experiments-", ignore_cleanup_errors=True) as folder:
        write(Place(db, Path(folder), words.seconds, sizes, words.workers), say)
    db.close()
    if words.into:
        words.into.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
