"""Opens and reads files that a user names, or that other users may exchange."""
