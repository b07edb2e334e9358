"""Typed, read-only views of stored data. Each view has one list of columns for all outputs.

The store returns rows as these NamedTuples. ``serialization`` derives JSON (API, ``--json``, webhooks), the API's
models and tables from their fields. Values become text last, according to their types.
"""
