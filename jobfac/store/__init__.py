"""Reads and writes of the tables, one module for each noun. SQL and nothing else; a ``Connection`` comes first."""
