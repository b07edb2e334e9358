"""Nobody may approve what they started, however their name is spelt."""

import pytest

from jobfac.operations.approvals import as_typed


@pytest.mark.parametrize(
    "name", ["ANNA Muller", "anna  müller ", "anna mu\u0308ller", "\uff41nna müller", "anna m\u200büller"]
)
def test_spellings_that_directories_take_for_one_person_are_one(name: str) -> None:
    assert as_typed(name) == as_typed("anna müller")


def test_other_persons_are_others() -> None:
    assert len({as_typed(name) for name in ("anna", "hanna", "anna2", r"SHOP\anna", "ann a", "岸", "崖")}) == 7
