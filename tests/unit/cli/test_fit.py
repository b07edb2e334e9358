"""A table fits its terminal: long texts are cut first, then columns are left out."""

from hypothesis import given
from hypothesis import strategies as st

from jobfac.cli.rendering.fit import GAP, LEAST, fit


def test_the_widest_texts_are_cut_first() -> None:
    assert fit([3, 40, 8, 60], [False, True, False, True], 80) == [3, 31, 8, 32]
    assert fit([3, 10, 8, 60], [False, True, False, True], 80) == [3, 10, 8, 53]
    assert fit([3, 4], [False, True], 80) == [3, 4]


def test_where_cutting_is_not_enough_the_last_columns_are_left_out() -> None:
    assert fit([10, 30, 20, 20, 20], [False, True, False, False, False], 60) == [10, 26, 20, 0, 0]


@given(st.lists(st.tuples(st.integers(1, 200), st.booleans()), min_size=1, max_size=12), st.integers(20, 200))
def test_it_fits_or_has_only_what_cannot_be_cut(columns: list[tuple[int, bool]], width: int) -> None:
    widths, cuttable = zip(*columns, strict=True)
    fitted = fit(widths, cuttable, width)
    shown = [one for one in fitted if one]
    least = [min(w, LEAST) if may else w for w, may in columns[:2]]
    assert sum(shown) + GAP * (len(shown) - 1) <= width or shown == least
    assert all(one <= before for one, before in zip(fitted, widths, strict=True))
