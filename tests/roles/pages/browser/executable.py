"""Which Chromium the tests of the pages use."""

import os
import shutil
from pathlib import Path

NOTED = Path(__file__).parents[4] / ".build" / "browser"
"""Where scripts/browser.sh notes the one that it found."""


def executable() -> Path | None:
    """Return the path of the browser, None: there is none."""
    for name in (os.environ.get("JOBFAC_TEST_BROWSER"), NOTED.read_text().strip() if NOTED.exists() else None):
        if name and (found := shutil.which(name)):
            return Path(found)
    for name in ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    return None
