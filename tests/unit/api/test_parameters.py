"""What a body of the API may say."""

import pytest

from jobfac.api import parameters


@pytest.mark.parametrize(("kind", "name"), [(parameters.StartBody, "priority"), (parameters.ApproveBody, "number")])
def test_a_whole_number_may_have_a_point(kind: type[parameters.Body], name: str) -> None:
    """JSON Schema calls 3.0 an integer, and some languages write every number so."""
    assert getattr(kind.model_validate_json(f'{{"{name}": 3.0}}'), name) == 3
