"""Table hints for SQL Server, for ``with_hint(table, HINT, "mssql")``."""

DIRTY = "WITH (NOLOCK)"
"""Hint for a number that may be inexact and must not wait for locks (SQL Server)."""

LOCKED = "WITH (ROWLOCK, UPDLOCK)"
"""Hint for a SELECT whose rows the same transaction will change (SQL Server)."""

LOCKED_BY_KEY = "WITH (ROWLOCK, UPDLOCK, FORCESEEK)"
"""The same for rows whose ids are known. It seeks each row even in a small table, because a scan would wait for the
locks of other transactions, and they for its locks (SQL Server)."""

FOUND_BY_KEY = "WITH (FORCESEEK)"
"""Hint for rows that are read by their keys from a table that others lock: a scan would wait for them (SQL Server)."""

SKIP = "WITH (UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK)"
"""Hint for locking only the rows that no other transaction has locked (SQL Server)."""

PASS = "WITH (READPAST, ROWLOCK, READCOMMITTEDLOCK)"
"""Hint for reading without waiting (SQL Server). It skips rows that another transaction has changed; a later read finds
them. It reads rows that are only locked for a change (UPDLOCK), because that lock admits readers.

Under READ_COMMITTED_SNAPSHOT, SQL Server allows READPAST only together with READCOMMITTEDLOCK. READPAST does not skip
page locks, so ROWLOCK is needed. Source: Microsoft, "Table hints"."""

PASS_BY_KEY = "WITH (READPAST, ROWLOCK, READCOMMITTEDLOCK, FORCESEEK)"
"""``PASS`` for rows whose ids are known: without FORCESEEK it might read the whole queue for a few of its runs."""

CLAIMING = "WITH (UPDLOCK, READPAST, ROWLOCK, READCOMMITTEDLOCK, FORCESEEK)"
"""``SKIP`` with FORCESEEK for the claim: the optimizer's statistics may be from a time when the queue was empty."""
