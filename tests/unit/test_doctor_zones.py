"""`jobfac doctor` on a machine without data on time zones."""

import sys
import zoneinfo

import pytest

from jobfac.definitions.patterns.moments import read_zone
from jobfac.doctor import machine


def test_a_machine_that_knows_no_time_zones_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(())
    try:
        monkeypatch.setitem(sys.modules, "tzdata", None)
        assert next(one.found for one in machine.settings({})).startswith("this machine knows no time zones")
        with pytest.raises(ValueError, match="'Europe/Nowhere'; this machine knows none: install tzdata"):
            read_zone("Europe/Nowhere")
    finally:
        zoneinfo.reset_tzpath(before)
