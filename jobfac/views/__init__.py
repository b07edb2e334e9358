"""Typed, read-only views of what is stored: one list of columns for each thing that is shown, wherever it is shown.

Rows leave the store as these NamedTuples. JSON (API, ``--json``, webhooks), the API's models and tables are derived
from their fields by ``serialization``; text is made from them at the last moment, by type.
"""
