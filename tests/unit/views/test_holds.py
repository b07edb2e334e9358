"""What a hold covers: names as SQL Server compares them."""

from datetime import UTC, datetime

import pytest

from jobfac.views.holds import HoldView

AT = datetime(2027, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("pool", "category", "job"), [("ETL  ", None, None), (None, "Sales ", None), (None, None, "CRM-sync ")]
)
def test_case_and_blanks_at_the_end_do_not_count(pool: str | None, category: str | None, job: str | None) -> None:
    hold = HoldView(1, pool, category, job, "why", None, AT, "ann", None, None)
    assert hold.covers("crm-sync", "sales", "etl")
    assert not hold.covers("crm-sync 2", "sales 2", "etl 2")
