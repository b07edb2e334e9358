"""A purge waits for no transaction of others to learn what they need."""

from sqlalchemy.dialects import mssql

from jobfac.store import retaining


def test_what_others_have_locked_is_read() -> None:
    for query in (retaining._CONTINUING, retaining._FIRST_EVENT, retaining._SEQUENCES):
        text = str(query.compile(dialect=mssql.dialect()))
        tables = text.count("FROM ") + text.count("JOIN ")
        assert text.count("WITH (NOLOCK)") == tables, text
