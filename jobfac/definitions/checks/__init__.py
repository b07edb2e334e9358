"""Checks that need all definitions, and the warnings."""

from jobfac.definitions.checks.across import across, children, fleets
from jobfac.definitions.checks.checking import check
from jobfac.definitions.checks.doubts import doubts

__all__ = ["across", "check", "children", "doubts", "fleets"]
