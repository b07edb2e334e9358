"""The HTTP API: authenticates, validates, calls an operation or a query, and writes JSON."""

from jobfac.api.app import LOCK_WAIT, TABLE, Site, create_app
from jobfac.api.serving.server import Server

__all__ = ["LOCK_WAIT", "TABLE", "Server", "Site", "create_app"]
