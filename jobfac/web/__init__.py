"""The pages: HTML made on the server, one module for each page. They use operations and the store, as the API does."""

from jobfac.web.site import site

__all__ = ["site"]
