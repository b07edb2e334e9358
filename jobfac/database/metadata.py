"""The schema that every table belongs to, and which parts of it a database lacks."""

import sqlalchemy as sa

SCHEMA = "jobfac"
"""Name of the schema on SQL Server."""

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "df": "df_%(table_name)s_%(column_0_name)s",
    },
)


def missing_parts(conn: sa.Connection) -> list[str]:
    """Return the tables, columns and indexes that the database lacks, in words such as ``the column run.slots``."""
    inspector, schema = sa.inspect(conn), SCHEMA if conn.dialect.name == "mssql" else None
    tables = set(inspector.get_table_names(schema=schema))
    missing = []
    for table in metadata.sorted_tables:
        if table.name not in tables:
            missing.append(f"the table {table.name}")
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name, schema=schema)}
        missing += [f"the column {table.name}.{one.name}" for one in table.c if one.name not in columns]
        indexes = {index["name"] for index in inspector.get_indexes(table.name, schema=schema)}
        missing += sorted(f"the index {index.name}" for index in table.indexes if index.name not in indexes)
    return missing
