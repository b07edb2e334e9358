"""The operations of jobfac, one function each. The command line and HTTP call these functions.

A function takes the ``Database`` and the ``Caller``, opens the transaction, writes the audit row, and sends the trace
of a start. Its docstring says whether the call may be repeated. One call takes effect only once: if the answer to a
commit is lost, the transaction is repeated, and the audit row shows whether the first one was committed.
"""
