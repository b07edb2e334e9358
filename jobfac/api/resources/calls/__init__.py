"""Starts from outside: the URLs of jobs, and the calls that come by them."""

from jobfac.api.resources.calls import start_urls

ENDPOINTS = start_urls.ENDPOINTS
