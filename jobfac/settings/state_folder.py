"""The folder of files that survive a restart."""

import os
from collections.abc import Mapping
from pathlib import Path

from jobfac.settings.values import SettingsError


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for files that survive a restart: under XDG_STATE_HOME if it is set, else under /var/lib for root and
    ~/.local/state for other users. No other user can create it first, unlike a folder for temporary files.

    Raises:
        SettingsError: this user has no home folder.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # the XDG specification says to ignore relative paths
        return Path(base) / "jobfac"
    if os.geteuid() == 0:
        return Path("/var/lib/jobfac")
    try:
        return Path.home() / ".local/state/jobfac"
    except RuntimeError:  # a user without an entry and HOME, as in some containers
        raise SettingsError("This user has no home folder: set HOME or XDG_STATE_HOME, or JOBFAC_SPOOL.") from None
