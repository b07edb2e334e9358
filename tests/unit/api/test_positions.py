"""The positions of events that were seen, if ids become visible out of order."""

from hypothesis import given
from hypothesis import strategies as st

from jobfac.api.live.positions import GAP_TIMEOUT, MAX_MISSING, Positions, resume_points


def test_a_late_event_is_searched_until_it_appears() -> None:
    positions = Positions([5], 0.0)
    positions.see([6, 8], 1.0)
    assert (positions.last, set(positions.missing), positions.contiguous) == (8, {7}, 6)
    positions.see([7], 2.0)
    assert (positions.missing, positions.contiguous) == ({}, 8)


def test_the_search_for_a_missing_event_ends() -> None:
    positions = Positions([1, 3], 0.0)
    assert positions.contiguous == 1
    positions.see([], GAP_TIMEOUT + 1)
    assert positions.contiguous == 3


def test_a_jump_of_ids_uses_bounded_memory() -> None:
    positions = Positions([1], 0.0)
    positions.see([1_000_000], 1.0)
    positions.see([2_000_000], 1.0)
    assert len(positions.missing) == MAX_MISSING
    assert positions.last == 2_000_000


def test_without_events_the_position_is_the_beginning() -> None:
    positions = Positions([], 0.0)
    assert (positions.last, positions.contiguous) == (0, 0)
    positions.see([1], 1.0)
    assert positions.contiguous == 1


@given(
    st.permutations(range(1, 30)).flatmap(
        lambda order: st.lists(st.integers(1, 6), min_size=29, max_size=29).map(lambda sizes: (order, sizes))
    )
)
def test_a_reader_that_resumes_at_any_position_misses_no_event(made: tuple[list[int], list[int]]) -> None:
    """Events become visible in any order, in batches. A reader may resume from the position of each event."""
    order, sizes = made
    positions = Positions([], 0.0)
    sent: set[int] = set()
    resumed = 0
    rest = list(order)
    while rest:
        size = sizes.pop()
        batch, rest = sorted(rest[:size]), rest[size:]
        positions.see(batch, 0.0)
        for event, position in zip(batch, resume_points(batch, positions.contiguous), strict=True):
            sent.add(event)
            assert position >= resumed
            assert set(range(1, position + 1)) <= sent
            resumed = position
    assert resumed == 29
