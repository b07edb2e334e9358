"""The files of programs: spool, output destinations, and how they are opened safely."""
