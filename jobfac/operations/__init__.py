"""What can be asked of jobfac: one function for each operation. The command line and HTTP call these.

A function takes the ``Database`` and the ``Caller``, opens the transaction, writes the audit row, and sends the trace
of a start. Its docstring says whether the call may be repeated. Inside one call nothing is done twice: where the answer
to a commit is lost, the transaction is repeated, and the audit row tells whether the first one was committed.
"""
