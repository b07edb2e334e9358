"""Commands of those on duty: stop, retry, hold, note and acknowledge."""
