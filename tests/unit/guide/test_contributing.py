"""CONTRIBUTING names files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:jobfac|tests|sql)/[\w/.-]+)`", TEXT)))


@pytest.mark.parametrize("path", NAMED)
def test_a_file_that_contributing_names_exists(path: str) -> None:
    if "NAME" in path or "NOUN" in path or "TOPIC" in path:
        assert (ROOT / path).parent.is_dir()
    else:
        assert (ROOT / path).exists()


def test_contributing_lists_five_files_to_read() -> None:
    chapter = TEXT.partition("## Read these five files")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. `", chapter, re.MULTILINE)) == 5


def test_every_folder_of_the_package_is_explained() -> None:
    folders = {path.name for path in (ROOT / "jobfac").iterdir() if (path / "__init__.py").exists()}
    table = TEXT.partition("## Where things are")[2].partition("\n## ")[0]
    first_cells = " ".join(re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_cells)) == folders


def test_the_documents_of_tests_name_files_and_folders_that_exist() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    folders = re.findall(r"^\| `(\w+)` \|", text.partition("## Folders")[2].partition("\n## ")[0], re.MULTILINE)
    here = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/*.py")}
    assert set(folders) == here
    for name in re.findall(r"\btests/[\w/]+\.py", text):
        assert (ROOT / name).exists(), name
