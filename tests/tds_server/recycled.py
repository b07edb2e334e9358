"""Copies of a template database. Several tests use one in turn, and each test finds it as the template is.

To create and drop a database, and to fill PostgreSQL's caches anew, costs more than most tests do.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.tds_server import postgres
from tests.tds_server.harness import TestServer

USES = 40
"""A database is dropped after so many tests, because removed rows leave gaps in its tables and indexes."""
MOST_ROWS = 2000
"""It is dropped after a test that leaves more rows."""
_numbers = itertools.count(1)
_OWN = "{0} >= 16384"  # the oids of what was made after the initialisation of PostgreSQL
_CATALOGS = {
    "pg_class": _OWN.format("oid"),
    "pg_attribute": _OWN.format("attrelid"),
    "pg_attrdef": "true",
    "pg_constraint": _OWN.format("oid"),
    "pg_index": _OWN.format("indexrelid"),
    "pg_proc": _OWN.format("oid"),
    "pg_type": _OWN.format("oid"),
    "pg_rewrite": _OWN.format("oid"),
    "pg_trigger": "true",
    "pg_namespace": "nspname !~ '^pg_'",
    "pg_event_trigger": "true",
    "pg_policy": "true",
}
_TABLES = """
SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relpersistence <> 't' ORDER BY oid
"""


class Copy:
    """One copy of the template, with a connection of its own that sees everything."""

    def __init__(self, dsn: str, name: str) -> None:
        self.name = name
        self.uses = 0
        self._conn: psycopg.Connection[Any] = psycopg.connect(f"{dsn} dbname={name}", autocommit=True)
        self._conn.execute("SET session_replication_role = replica; SET lock_timeout = '2s'")  # no foreign keys
        tables = [str(row[0]) for row in self._conn.execute(_TABLES)]
        self._empty = [name for name in tables if not self._ask(f"SELECT EXISTS (SELECT FROM {name})")[0]]
        kept = [name for name in tables if name not in self._empty]
        self._sequences = [
            str(row[0]) for row in self._conn.execute("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'")
        ]
        versions = [
            f"(SELECT row(count(*), sum(xmin::text::bigint))::text FROM {c} WHERE {w})" for c, w in _CATALOGS.items()
        ]
        contents = [f"(SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} AS t)" for name in kept]
        self._state = f"SELECT ARRAY[{', '.join([*versions, *contents])}]"
        self._filled = f"SELECT ARRAY[{', '.join(f'EXISTS (SELECT FROM {name})' for name in self._empty)}], " + (
            f"ARRAY[{', '.join(f'(SELECT is_called FROM {name})' for name in self._sequences)}]::boolean[]"
        )
        self._first = self._ask(self._state)

    def _ask(self, query: str) -> tuple[Any, ...]:
        row = self._conn.execute(query.encode(), prepare=True).fetchone()
        assert row is not None
        return tuple(row)

    def empty(self) -> bool:
        """Remove all rows and restart the identities.

        Returns whether the database is then as the template is: False if the test has changed a definition, or a row
        that the template has.
        """
        self.uses += 1
        if self._ask(self._state) != self._first:
            return False
        filled, called = self._ask(self._filled)
        removed = 0
        for name in itertools.compress(self._empty, filled):
            removed += self._conn.execute(f"DELETE FROM {name}".encode(), prepare=True).rowcount
        for name in itertools.compress(self._sequences, called):
            restart = f"SELECT setval(seqrelid, seqstart, false) FROM pg_sequence WHERE seqrelid = '{name}'::regclass"
            self._conn.execute(restart.encode(), prepare=True)
        filled, called = self._ask(self._filled)
        return removed <= MOST_ROWS and not any(filled) and not any(called)

    def close(self) -> None:
        self._conn.close()


class Recycled:
    """The copies of one template that no test uses now."""

    def __init__(self, server: TestServer, template: str) -> None:
        self._server = server
        self._template = template
        self._idle: list[Copy] = []

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Name a database that is as the template is."""
        copy = self._idle.pop() if self._idle else self._make()
        try:
            yield copy.name
        finally:
            if self._is_reusable(copy):
                self._idle.append(copy)
            else:
                self._drop(copy)

    def _make(self) -> Copy:
        name = f"test{next(_numbers)}"
        postgres.create_database(self._server.dsn, name, self._template)
        self._server.command(keep=name)
        return Copy(self._server.dsn, name)

    def _is_reusable(self, copy: Copy) -> bool:
        if not self._server.command(quiet=copy.name)["quiet"]:
            return False
        try:
            return copy.empty() and copy.uses < USES
        except psycopg.Error:  # a lock that is not free, or a connection that was ended
            return False

    def _drop(self, copy: Copy) -> None:
        self._server.command(forget=copy.name)
        copy.close()
        postgres.drop_database(self._server.dsn, copy.name)

    def close(self) -> None:
        """Drop all of them."""
        while self._idle:
            self._drop(self._idle.pop())
