"""A TDS server for tests: Microsoft's drivers on the real wire, with PostgreSQL behind it.

It proves the use of the protocol, the drivers and the logic of concurrent statements. It does not prove SQL Server's
locking, lock escalation, plans, collation (comparisons are case-sensitive here), conversions or permissions (GRANT and
roles are accepted and ignored).

From the wire inwards: ``transport`` (packets, TLS), ``login``, ``requests`` and ``values`` (what clients send),
``tokens`` (what they are answered), ``protocol`` (one connection), ``batches`` (a batch into statements), ``executor``
(runs them), ``dml``, ``ddl`` and ``functions`` (T-SQL into PostgreSQL's SQL), ``storage`` (the PostgreSQL connection).
Around it: ``server`` (the process), ``faults``, ``postgres``, ``harness`` (for tests) and ``grammar``.
"""
