"""Alembic's entry point: online on the connection of ``Database.upgrade``, offline for ``jobfac db script``."""

from alembic import context

from jobfac.database.tables import metadata

attributes = context.config.attributes
schema = attributes["schema"]
options = {"target_metadata": metadata, "version_table_schema": schema, "transaction_per_migration": True}

if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["engine"], literal_binds=True, dialect_opts={"deprecate_large_types": True}, **options
    )
    if schema:
        context.execute(f"IF SCHEMA_ID(N'{schema}') IS NULL EXEC(N'CREATE SCHEMA {schema} AUTHORIZATION dbo')")
    with context.begin_transaction():
        context.run_migrations()
else:
    connection = attributes["connection"]
    if schema:
        connection.exec_driver_sql(
            f"IF SCHEMA_ID(N'{schema}') IS NULL EXEC(N'CREATE SCHEMA {schema} AUTHORIZATION dbo')"
        )
        connection.commit()
    context.configure(connection=connection, **options)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
