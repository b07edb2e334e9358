"""Import SQLAlchemy without asyncio, which costs 3 MB and which SQLAlchemy uses only in asynchronous engines."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _OnDemand(ModuleType):
    """What SQLAlchemy's modules know as asyncio. It imports the real module at the first use."""

    @staticmethod
    def iscoroutine(value: object) -> bool:
        """The only name that SQLAlchemy reads while it is imported."""
        return bool(import_module("asyncio").iscoroutine(value))

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("asyncio"), name)


@contextmanager
def _asyncio_on_demand() -> Iterator[None]:
    """Modules that are imported in this block import asyncio when they use it, unless it is imported already."""
    if "asyncio" in sys.modules:
        yield
        return
    stand_in = sys.modules["asyncio"] = _OnDemand("asyncio")
    try:
        yield
    finally:
        if sys.modules["asyncio"] is stand_in:
            del sys.modules["asyncio"]


def import_sqlalchemy(url: str) -> None:
    """Import SQLAlchemy and its dialect for this URL. Call it before anything else imports them, in a process with one
    thread."""
    with _asyncio_on_demand():
        import_module("sqlalchemy")
        import_module("sqlalchemy.dialects." + ("mssql" if url.startswith("mssql") else "sqlite"))
