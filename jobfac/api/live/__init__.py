"""Live changes: one poller reads runs, output and events for all streams and waiting requests."""
