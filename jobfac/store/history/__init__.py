"""What the pages read: bounded searches, the latest runs of jobs, and what changed. Nothing here reads everything."""
