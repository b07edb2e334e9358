"""Read and write the tables, one module per noun. These modules contain only SQL.

Every function takes a ``Connection`` as its first argument.
"""
