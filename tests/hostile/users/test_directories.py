"""A program's directory is entered with the rights of its user, not with those of the worker."""

import os
from pathlib import Path

import pytest

from jobfac.programs import Program, StartError
from tests.hostile.others import NOBODY, as_nobody, needs_root, run


@pytest.fixture
def place(crossroads: Path) -> Path:
    """A folder of the user nobody, beside a closed folder of root that holds an open one."""
    inside = crossroads / "closed/inside"
    inside.mkdir(parents=True)
    (inside / "secret").write_text("root's own")
    (crossroads / "closed").chmod(0o700)
    theirs = crossroads / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    return theirs


def output_of(directory: Path, command: str) -> str:
    """Run a shell command as nobody in this directory; returns its output."""
    output = directory.parent / "output"
    with output.open("w+b") as file:
        environment = {"PATH": os.defpath}
        program = Program(("/bin/sh", "-c", command), "m/1/1", environment, str(directory), "nobody")
        run(program, file.fileno())
    return output.read_text().strip()


@needs_root
def test_a_link_of_the_user_leads_to_no_directory_that_it_may_not_enter(place: Path) -> None:
    as_nobody(lambda: (place / "work").symlink_to("../closed/inside"))
    with pytest.raises(StartError, match="may not be entered by user 'nobody'"):
        output_of(place / "work", "cat secret")


@needs_root
def test_the_users_own_links_and_closed_folders_are_entered(place: Path) -> None:
    as_nobody(lambda: (place / "release").mkdir(mode=0o700))
    as_nobody(lambda: (place / "current").symlink_to("release"))
    before = sorted(Path("/proc/self/fd").iterdir())
    assert output_of(place / "current", "pwd; id -u; ls -l /proc/self/fd | grep -c release").split() == [
        str(place / "release"), str(NOBODY.pw_uid), "0",
    ]  # fmt: skip
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@needs_root
@pytest.mark.parametrize(("name", "words"), [("missing", "does not exist"), ("file", "is not a directory")])
def test_a_directory_that_cannot_be_entered_is_named(place: Path, name: str, words: str) -> None:
    (place / "file").touch()
    with pytest.raises(StartError, match=f"{place / name}' {words}"):
        output_of(place / name, "true")


@needs_root
def test_a_program_that_its_user_cannot_reach_is_not_called_missing(place: Path) -> None:
    tool = place.parent / "closed" / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    with pytest.raises(StartError, match=f"'{tool}' is in a folder that user 'nobody' may not enter; grant it the"):
        run(Program((str(tool),), "m/1/1", {}, None, "nobody"))


@needs_root
def test_an_error_is_explained_without_a_look_into_what_the_user_placed(place: Path) -> None:
    """In the worker, the user's link would lead to the worker's own descriptors: reading a pipe may never end."""
    reading, writing = os.pipe()
    os.write(writing, b"#!taken\n")
    as_nobody(lambda: (place / "run").symlink_to(f"/proc/self/fd/{reading}"))
    with pytest.raises(StartError, match="there is no program") as caught:
        run(Program(("./run",), "m/1/1", {}, str(place), "nobody"))
    assert "taken" not in str(caught.value)
    assert os.read(reading, 100) == b"#!taken\n"
    os.close(reading)
    os.close(writing)
