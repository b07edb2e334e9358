"""The HTTP API: a thin layer over the functions that the command line uses, too."""

from jobfac.api.app import TABLE, Site, create_app
from jobfac.api.serving.server import Server

__all__ = ["TABLE", "Server", "Site", "create_app"]
