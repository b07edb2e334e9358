"""A text of 40,000 characters is read in well under a second, with any content.

While a regular expression is matched, no other thread of its process runs, so the time is that of a whole API, or, with
`jobfac up`, that of the worker's heartbeats too.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest

from jobfac.definitions.parameters.placeholders import UnresolvedError, placeholders
from jobfac.definitions.patterns.moments import read_blackout
from jobfac.definitions.triggers import call
from jobfac.sqljob import scripts
from jobfac.times import read_day, read_end, read_time

LENGTH = 40_000
NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < 1


@pytest.mark.parametrize("tail", ["\n", "\nb", "!"])
def test_a_time(tail: str) -> None:
    text = "1" + "a" * LENGTH + tail
    for read in (partial(read_time, back=True), read_end, read_day):
        with pytest.raises(ValueError, match="must be a"):
            read(text, NOW)


def test_the_offset_of_a_placeholder() -> None:
    with pytest.raises(UnresolvedError, match="no name with an offset"):
        placeholders("${due.date+1" + " " * LENGTH + "+}")


def test_the_place_of_a_value_in_a_call() -> None:
    assert call._PLACE.search("${body." + " " * LENGTH) is None
    assert call._PLACE.search("${body." + "a " * LENGTH) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${body}", ("body", None)),
        ("${ body }", ("body", None)),
        ("${body.}", ("body", "")),
        ("${body. }", ("body", "")),
        ("${body.a b }", ("body", "a b")),
        ("${header. X-A\t}", ("header", " X-A")),
    ],
)
def test_places_in_a_call_are_read_as_before(text: str, found: tuple[str, str | None]) -> None:
    place = call._PLACE.fullmatch(text)
    assert place is not None
    assert place.groups() == found


def test_a_window() -> None:
    with pytest.raises(ValueError, match="must be"):
        read_blackout("12/31 18:00" + " " * LENGTH + "x - 01/01 06:00 - ")
    assert read_blackout("12/31 18:00 \t-  01/01 06:00") == read_blackout("12/31 18:00 - 01/01 06:00")


@pytest.mark.parametrize("text", ["GO" + " \t" * LENGTH + "x", "'${parameters." + " " * LENGTH + "'"])
def test_a_script(text: str) -> None:
    (batch,) = scripts.split(f"SELECT 1\n{text}", "mssql")
    assert batch.text.endswith(text)


def test_a_script_with_spaces_around_the_words_that_matter() -> None:
    first, second = scripts.split("SELECT ${ parameters.day \t}\nGO \t 2 ; -- again\nSELECT 2\ngo", "mssql")
    assert [one.name for one in first.placeholders] == ["day"]
    assert (first.repeats, second.repeats) == (2, 1)
