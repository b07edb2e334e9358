"""Creates databases on a SQL Server for tests, and prints the URL of each for a driver.

    python -m scripts.sqlserver.create --password Factory-1234 --driver pyodbc jobfac chaos bench

A line of the output is ``NAME_URL=mssql+...``, with the name in upper case, as GitHub's ``GITHUB_ENV`` takes it. With
pyodbc, the URL names the driver that the package mssql-python-odbc contains. It waits until the server answers.
"""

import argparse
import sys

import sqlalchemy as sa
import tenacity

from tests.tds_server.harness import DRIVERS, odbc_driver


def server_url(words: argparse.Namespace, database: str) -> sa.URL:
    """The URL of a database on the server."""
    options = {"TrustServerCertificate": "yes"}
    if words.driver == "pyodbc":
        options["driver"] = odbc_driver()
    return sa.URL.create(f"mssql+{words.driver}", "sa", words.password, words.host, words.port, database, query=options)


def create(url: sa.URL, names: list[str], wait: float) -> None:
    """Create the databases that are missing, with READ_COMMITTED_SNAPSHOT.

    Raises:
        sqlalchemy.exc.DBAPIError: the server does not answer within ``wait`` seconds, or refuses.
    """
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(sa.exc.DBAPIError),
        stop=tenacity.stop_after_delay(wait),
        wait=tenacity.wait_fixed(2),
        reraise=True,
    )
    with retrying(engine.connect) as conn:
        for name in names:
            if conn.execute(sa.text("SELECT DB_ID(:name)"), {"name": name}).scalar() is None:
                conn.exec_driver_sql(f"CREATE DATABASE [{name}]")
                conn.exec_driver_sql(f"ALTER DATABASE [{name}] SET READ_COMMITTED_SNAPSHOT ON")
    engine.dispose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1433)
    parser.add_argument("--password", required=True, help="of the login sa")
    parser.add_argument("--driver", choices=DRIVERS, default="pyodbc")
    parser.add_argument("--wait", type=float, default=120.0, help="seconds until the server must answer")
    parser.add_argument("database", nargs="+")
    words = parser.parse_args()
    if bad := [name for name in words.database if not name.isidentifier()]:
        parser.error(f"a database's name here has letters, digits and '_': not {', '.join(bad)}")
    create(server_url(words, "master"), words.database, words.wait)
    for name in words.database:
        print(f"{name.upper()}_URL={server_url(words, name).render_as_string(hide_password=False)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
