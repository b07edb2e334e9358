"""Pages to read: the guide, and the calls of the HTTP API."""
