"""The engine, its dialects, the tables and their migrations."""
