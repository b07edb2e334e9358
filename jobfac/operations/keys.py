"""Create and revoke API keys."""

from collections.abc import Sequence

import sqlalchemy as sa

from jobfac.control_characters import check_name
from jobfac.database.engine import Database
from jobfac.errors import LIST_KEYS, Invalid, NotFound
from jobfac.operations.caller import Caller, transact
from jobfac.store import api_keys
from jobfac.store.api_keys import Created, Role


def create(
    db: Database,
    by: Caller,
    name: str,
    role: Role,
    *,
    categories: Sequence[str] | None = None,
    lifetime: float | None = None,
) -> Created:
    """Create a key called ``name``. Returns its id and its text, which cannot be shown again.

    Each call creates a key, so the caller must not repeat it.

    Args:
        categories: the only categories that the key may access; None: all.
        lifetime: seconds until it expires; None: never.

    Raises:
        Invalid: the name or a category is blank, or has control characters.
    """
    if not name.strip():
        raise Invalid("The name of a key must not be blank: events and the audit say with it who did something.")
    if not all(one.strip() for one in categories or ()):
        raise Invalid("A category must not be blank; leave it out for a key to all categories.")
    for what, text in (("The name of a key", name), *(("A category", one) for one in categories or ())):
        try:
            check_name(text)
        except ValueError as error:
            raise Invalid(f"{what} {error}.") from None
    return transact(db, by, lambda conn: api_keys.create(conn, name, role, by.name, categories, lifetime))


def revoke(db: Database, by: Caller, key_id: int) -> None:
    """Revoke a key immediately. A second call raises ``NotFound``.

    Raises:
        NotFound: there is no such key, or it was revoked before.
    """

    def work(conn: sa.Connection) -> None:
        if not api_keys.revoke(conn, key_id, by.name):
            raise NotFound(f"There is no active key {key_id}; {{way}} shows the keys.", LIST_KEYS)

    transact(db, by, work)
