"""Which events were seen, when ids become visible out of order."""

from hypothesis import given
from hypothesis import strategies as st

from jobfac.api.live.positions import GAP_TIMEOUT, MAX_MISSING, Positions, resume_points


def test_a_late_event_is_looked_for_until_it_comes() -> None:
    positions = Positions([5], 0.0)
    positions.see([6, 8], 1.0)
    assert (positions.last, set(positions.missing), positions.contiguous) == (8, {7}, 6)
    positions.see([7], 2.0)
    assert (positions.missing, positions.contiguous) == ({}, 8)


def test_what_never_comes_is_given_up() -> None:
    positions = Positions([1, 3], 0.0)
    assert positions.contiguous == 1
    positions.see([], GAP_TIMEOUT + 1)
    assert positions.contiguous == 3


def test_a_jump_of_the_numbers_does_not_grow_without_bound() -> None:
    positions = Positions([1], 0.0)
    positions.see([1_000_000], 1.0)
    positions.see([2_000_000], 1.0)
    assert len(positions.missing) == MAX_MISSING
    assert positions.last == 2_000_000


def test_without_events_everything_is_ahead() -> None:
    positions = Positions([], 0.0)
    assert (positions.last, positions.contiguous) == (0, 0)
    positions.see([1], 1.0)
    assert positions.contiguous == 1


@given(
    st.permutations(range(1, 30)).flatmap(
        lambda order: st.lists(st.integers(1, 6), min_size=29, max_size=29).map(lambda sizes: (order, sizes))
    )
)
def test_who_resumes_anywhere_misses_nothing(made: tuple[list[int], list[int]]) -> None:
    """Events become visible in any order, in batches; after each told event a reader may resume from its position."""
    order, sizes = made
    positions = Positions([], 0.0)
    told: set[int] = set()
    resumed = 0
    rest = list(order)
    while rest:
        size = sizes.pop()
        batch, rest = sorted(rest[:size]), rest[size:]
        positions.see(batch, 0.0)
        for event, position in zip(batch, resume_points(batch, positions.contiguous), strict=True):
            told.add(event)
            assert position >= resumed
            assert set(range(1, position + 1)) <= told
            resumed = position
    assert resumed == 29
