"""Copies the standard library's json package and byte-compiles the copy."""

import compileall
import json
import shutil
import sys
import tempfile
from pathlib import Path

source = Path(json.__file__).parent
with tempfile.TemporaryDirectory() as folder:
    copy = Path(shutil.copytree(source, Path(folder) / "json", ignore=shutil.ignore_patterns("__pycache__")))
    ok = compileall.compile_dir(copy, quiet=1)
    made = len(list(copy.rglob("*.pyc")))
print(f"compiled {made} modules of {source}")
sys.exit(0 if ok and made else 1)
