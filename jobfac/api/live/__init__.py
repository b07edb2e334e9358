"""What clients of the API follow: runs, output and events as they change."""
