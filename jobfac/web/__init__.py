"""The pages: HTML made on the server, one module a page. They call operations and read the store, as the API does."""

from jobfac.web.site import site

__all__ = ["site"]
