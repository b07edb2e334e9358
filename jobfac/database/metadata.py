"""The schema that every table belongs to."""

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
