"""Variables that were probably meant as settings: `JOBFAC_DATABASE` for `JOBFAC_DATABASE_URL`."""

import dataclasses
import difflib
from collections.abc import Mapping

from jobfac.settings import Settings


def misspelt(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that nothing reads, each with the variable of a setting that is spelt nearly like it.

    Parameters of a run, which its program may pass on, do not count.
    """
    known = [f"JOBFAC_{setting.name.upper()}" for setting in dataclasses.fields(Settings)]
    named = (name for name in environment if name.startswith("JOBFAC_") and not name.startswith("JOBFAC_PARAM_"))
    unread = sorted(name for name in named if name not in known)
    meant = {name: difflib.get_close_matches(name, known, 1, 0.85) for name in unread}
    return {name: found[0] for name, found in meant.items() if found}
