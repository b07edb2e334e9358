"""The check of the size limits, on files created for it."""

from pathlib import Path

import pytest

from scripts.limits import excesses


def write(root: Path, name: str, lines: int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x = 1\n" * lines)


@pytest.mark.parametrize(
    ("name", "lines", "wheres"),
    [
        ("jobfac/a/b.py", 350, []),
        ("jobfac/a/b.py", 351, ["jobfac/a/b.py"]),
        ("jobfac/database/migrations/versions/0001.py", 351, []),
        ("tests/a.json", 351, []),
    ],
)
def test_the_lines_of_a_file_are_limited(tmp_path: Path, name: str, lines: int, wheres: list[str]) -> None:
    write(tmp_path, name, lines)
    assert [one.where for one in excesses(tmp_path, [name])] == wheres


def test_the_lines_of_a_function_are_limited(tmp_path: Path) -> None:
    body = "    x = 1\n" * 50
    (tmp_path / "a.py").write_text(f"def long():\n{body}\nclass A:\n    async def short(self):\n        pass\n")
    (found,) = excesses(tmp_path, ["a.py"])
    assert found == ("a.py:long", "a.py:1 long has 51 lines; at most 50")


@pytest.mark.parametrize(
    ("folder", "number", "wheres"),
    [
        ("jobfac/a", 15, []),
        ("jobfac/a", 16, ["jobfac/a/"]),
        ("tests/a", 16, ["tests/a/"]),
        ("jobfac", 9, ["jobfac"]),
        ("jobfac", 8, []),
    ],
)
def test_the_files_of_a_folder_are_limited(tmp_path: Path, folder: str, number: int, wheres: list[str]) -> None:
    names = [f"{folder}/m{position}.py" for position in range(number)]
    for name in names:
        write(tmp_path, name, 1)
    assert [one.where for one in excesses(tmp_path, names)] == wheres
