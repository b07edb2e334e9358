"""A TDS server for tests: Microsoft's drivers on the real wire, with PostgreSQL behind it.

It proves the use of the protocol, the drivers and the logic of concurrent statements. It does not prove SQL Server's
locking, lock escalation, plans, collation (comparisons are case-sensitive here), conversions or permissions (GRANT and
roles are accepted and ignored).

``README.md`` describes how it works and what it understands.
"""
