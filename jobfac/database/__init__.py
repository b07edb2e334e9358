"""The database: engine and transactions, the two SQL dialects, tables and migrations."""
