"""What the machine gives, so that it can neither hang its caller nor lead it astray: files, paths, threads."""
