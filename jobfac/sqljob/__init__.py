"""The child program that runs the script of a ``sql`` job: ``python -m jobfac.sqljob``.

The worker passes the script and its options in a file (``JOBFAC_SQL_FILE``), and the URL of the
database in its environment (``JOBFAC_SQL_URL``). A thread runs the script; the main thread waits for signals and for
the timeout, and cancels the statement in the server.
"""
