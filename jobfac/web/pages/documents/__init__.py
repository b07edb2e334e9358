"""The documentation: the guide, and the calls of the HTTP API."""
