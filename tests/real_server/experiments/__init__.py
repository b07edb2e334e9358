"""Five experiments on a real SQL Server, and a report of what they found that can be pasted into an issue.

`make test-mssql` begins with them. They answer what no test server can: which lock hints the server accepts, which
plans it makes, what it blocks, where it finds deadlocks, and how many plans it keeps.
"""
