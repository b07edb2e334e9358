"""When a file counts as gone."""

from pathlib import Path

from jobfac.store.schedules import ArrivedFile
from jobfac.worker.files.departures import GONE, Departures, placed
from jobfac.worker.files.scanning import Listing, Scan, Seen, scan

NS = 10**9


def listed(*names: str, place: str = "1:1", **files: Seen) -> Scan:
    """A scan of the folder /in."""
    return Scan({f"/in/{name}": seen for name, seen in files.items()}, frozenset(), [], {
        "/in": Listing(place, frozenset({*names, *files}))
    })  # fmt: skip


HERE = listed(a=Seen(1, NS))
FILE = placed(ArrivedFile("/in/a", 1, 1), HERE)


def known(*seen: tuple[Scan, float]) -> bool:
    """Whether a file that has become a run has gone after these scans."""
    departures = Departures()
    departures.handle([FILE], {FILE.key: 7})
    gone = [departures.observe(found, at) for found, at in seen]
    assert not any(gone[:-1])
    return [(one.key, one.run_id) for one in gone[-1]] == [(FILE.key, 7)]


def test_a_file_has_gone_if_scans_miss_it_for_long_enough() -> None:
    assert not known((listed(), 0))
    assert not known((listed(), 0), (listed(), GONE - 1))
    assert known((listed(), 0), (listed("other"), GONE))
    assert not known((listed(), 0), (HERE, 10), (listed(), GONE), (listed(), GONE + 1))
    assert known((listed(a=Seen(2, NS)), 0), (listed(a=Seen(1, 2 * NS)), GONE)), "another one is in its place"
    assert not known((listed(a=Seen(1, NS + 5)), 0), (listed(a=Seen(1, NS + 5)), GONE))


def test_only_its_folder_shows_that_it_has_gone() -> None:
    for other in (Scan({}, frozenset(), []), listed(place="1:2"), listed(place=""), listed("a")):
        assert not known((other, 0), (other, GONE))
        assert not known((listed(), 0), (other, 10), (listed(), GONE), (listed(), GONE + 1))


def test_a_listing_names_what_is_no_file_and_changes_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("/gone")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.csv").touch()
    found = scan(f"{tmp_path}/*.csv")
    assert found.listings[str(tmp_path)].names == {"link.csv", "folder.csv", "a.csv"}
    other = scan(f"{tmp_path}/folder.csv/*")
    assert other.listings[f"{tmp_path}/folder.csv"].place != found.listings[str(tmp_path)].place
    assert scan(f"{tmp_path}/none/*").listings == {}
