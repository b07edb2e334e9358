"""Fit a table into the width of a terminal: each row stays on one line. Pure."""

from collections.abc import Sequence

GAP = 2
"""Blanks between two columns."""

LEAST = 8
"""The width to which a column of text may be cut."""


def fit(widths: Sequence[int], cuttable: Sequence[bool], width: int, keep: int = 2) -> list[int]:
    """Return the width of each column, so that all of them fit into ``width``; 0: the column is left out.

    The widest columns of text are cut first, down to ``LEAST``. Where that is not enough, columns are left out from the
    right, but not the first ``keep``.

    Args:
        widths: of the longest text of each column.
        cuttable: whether the texts of a column may be cut.
    """
    shown = len(widths)
    while True:
        fitted = _cut(widths[:shown], cuttable[:shown], width)
        if shown <= keep or sum(fitted) + GAP * (shown - 1) <= width:
            return fitted + [0] * (len(widths) - shown)
        shown -= 1


def _cut(widths: Sequence[int], cuttable: Sequence[bool], width: int) -> list[int]:
    fitted = list(widths)
    excess = sum(fitted) + GAP * (len(fitted) - 1) - width
    while excess > 0:
        able = [place for place, may in enumerate(cuttable) if may and fitted[place] > LEAST]
        if not able:
            break
        fitted[max(able, key=lambda place: fitted[place])] -= 1
        excess -= 1
    return fitted
