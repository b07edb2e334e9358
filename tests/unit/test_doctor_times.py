"""Times in the findings of `jobfac doctor`."""

from datetime import UTC, datetime

from jobfac.doctor.factory import local


def test_a_time_has_the_offset_of_its_zone() -> None:
    text = local(datetime(2027, 1, 1, 6, 30, 15, 500_000, tzinfo=UTC))
    assert datetime.fromisoformat(text) == datetime(2027, 1, 1, 6, 30, 15, tzinfo=UTC)
