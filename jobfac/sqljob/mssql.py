"""SQL Server: with pyodbc, whose cursors can cancel (an attention to the server), or with mssql-python.

Neither driver reports the line and the procedure of an error, and mssql-python does not report its number. So a batch
is sent inside TRY ... CATCH, whose handler sends these as a message and rethrows the error. If the server refuses that,
because a statement must stand alone, the batch is sent unchanged: nothing of it has been executed then.
"""

import re
from typing import Any

import sqlalchemy as sa

from jobfac.database.dialects.answers import is_transient
from jobfac.sqljob.scripts import Batch
from jobfac.sqljob.servers import Failure, Say, Server

MARK = "jobfac-error"
"""The prefix of the handler's message, which is not shown."""

BEGUN = "jobfac-begun"
"""The message with which a batch begins, which is not shown. A later statement may fail like a refused batch, uncaught:
one that is compiled late and goes to a linked server. mssql-python cannot take the message, because it gives no counts
behind one; there, a first result shows that the batch has begun."""

TRY_AGAIN = (-1, -2, -3)
"""What sp_getapplock returns after its time, after a cancel, and to the victim of a deadlock."""

UDT = -151
"""ODBC's type of geography, geometry and hierarchyid, which pyodbc does not know. Without a converter the script would
fail by a result whose statement has been committed."""

HANDLER = f"""
END TRY
BEGIN CATCH
DECLARE @jobfac_number__ int = ERROR_NUMBER(), @jobfac_line__ int = ERROR_LINE();
DECLARE @jobfac_procedure__ nvarchar(300) = COALESCE(ERROR_PROCEDURE(), N'');
RAISERROR(N'{MARK} %d %d %s', 0, 1, @jobfac_number__, @jobfac_line__, @jobfac_procedure__) WITH NOWAIT;
THROW;
END CATCH"""

_ALONE = frozenset({"PROC", "PROCEDURE", "FUNCTION", "VIEW", "TRIGGER", "SCHEMA", "DEFAULT", "RULE"})
_STATEMENT_BEFORE = re.compile(r"@@ROWCOUNT|@@ERROR|\bROWCOUNT_BIG\b", re.IGNORECASE)
_SEVERAL_ERRORS = re.compile(r"\b(?:BACKUP|RESTORE|DBCC)\b", re.IGNORECASE)
_REFUSED = re.compile(
    r"incorrect syntax near|must be the (?:first|only) statement|unclosed quotation mark", re.IGNORECASE
)
_REFUSED_BY_NUMBER = re.compile(r" \((?:102|103|105|111|156|170|319|1067)\)(?= \(SQL|; \[\w{5}\] )")
"""The numbers of these and of similar errors, whose texts are in the language of the login. mssql-python has none."""
_MARK = re.compile(rf"{MARK} (\d+) (\d+) ([^\r\n;]*?)(?= \(\d+\)|[\r\n;]|$)")
_SOURCE = re.compile(r"(?:\[(?:Microsoft|SQL Server|ODBC [^\]]*|unixODBC|[0-9A-Z]{5})\] ?)+")
_BETWEEN = re.compile(r"; (?=\[[0-9A-Z]{5}\] \[)")
_NUMBER = re.compile(r" \((-?\d+)\)(?: \(SQL\w+\))?$")


class SqlServer(Server):
    """A connection to SQL Server or Azure SQL Database."""

    sessions = "sys.dm_tran_locks (APPLICATION), end it (KILL)"

    def __init__(self, connection: Any, dialect: sa.Dialect, say: Say) -> None:
        super().__init__(connection, dialect, say)
        self.style = "qmark"
        self.cancels = dialect.driver == "pyodbc"
        self._mark: re.Match[str] | None = None
        self._begun = False

    def prepare(self, isolation: str | None) -> None:
        if self.cancels:
            self.connection.add_output_converter(UDT, lambda data: data)
        if isolation is not None:
            self.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation.upper()}")

    def may_pass(self, error: Exception) -> bool:
        return is_transient(error)

    def _take(self, name: str) -> bool:
        cursor = self.connection.cursor()
        try:
            resource = name[:255].replace("'", "''")
            cursor.execute(
                f"DECLARE @jobfac_taken__ int; EXEC @jobfac_taken__ = sp_getapplock @Resource = N'{resource}', "
                "@LockMode = N'Exclusive', @LockOwner = N'Session', @LockTimeout = 0; SELECT @jobfac_taken__"
            )
            while cursor.description is None and cursor.nextset():
                pass
            row = None if cursor.description is None else cursor.fetchone()
            return row is None or row[0] not in TRY_AGAIN
        finally:
            cursor.close()

    def wrap(self, text: str, batch: Batch) -> str:
        """Return the batch inside TRY ... CATCH. The numbers of its lines do not change.

        BACKUP, RESTORE and DBCC report several errors, of which CATCH keeps only the last and least informative one.
        """
        self._mark, self._begun = None, False
        defines = bool(batch.words) and batch.words[0] in ("CREATE", "ALTER") and bool(_ALONE & set(batch.words[1:4]))
        if not batch.words or defines or _SEVERAL_ERRORS.search(text):
            return text
        # The message would be the last statement to a script that asks what the one before GO has done.
        begin = f"RAISERROR(N'{BEGUN}', 0, 1)" if self.cancels and not _STATEMENT_BEFORE.search(text) else ""
        return f"BEGIN TRY {begin};{text}{HANDLER}"  # a WITH needs the semicolon

    def began(self) -> None:
        self._begun = True

    def misread(self, error: Exception) -> bool:
        said = str(error)
        if self._begun or BEGUN in said or self._mark is not None or _MARK.search(said) is not None:
            return False
        return _REFUSED.search(said) is not None or _REFUSED_BY_NUMBER.search(said) is not None

    def messages(self, cursor: Any) -> bool:
        found = list(cursor.messages or ())
        talked = False
        for _, text in found:
            plain = _SOURCE.sub("", text, count=1)
            if plain.rstrip() == BEGUN:
                self._begun = True
                continue
            talked = True
            if (mark := _MARK.search(plain)) is not None:
                self._mark = mark
            else:
                self.say(plain)
        if found:
            del cursor.messages[:]
        return talked

    def _cancel(self) -> None:
        if self.cancels:
            self.cursor.cancel()

    def is_lost(self, error: Exception) -> bool:
        # A cancel between two calls of ODBC ends with HY010 (function sequence error). A real loss fails the next call.
        return super().is_lost(error) and error.args[:1] != ("HY010",)

    def open_transaction(self) -> bool:
        cursor = self.connection.cursor()
        cursor.execute("SELECT @@TRANCOUNT")
        row = None if cursor.description is None else cursor.fetchone()  # a script may have SET NOEXEC ON
        cursor.close()
        return row is not None and bool(row[0])

    def rollback(self) -> None:
        self.execute("IF @@TRANCOUNT > 0 ROLLBACK")

    def explain(self, error: Exception, batch: Batch) -> Failure:
        text = str(getattr(error, "ddbc_error", "") or (error.args[1] if len(error.args) > 1 else error))
        mark = self._mark or _MARK.search(text)
        number, records = None, []
        for record in _BETWEEN.split(text):
            plain = _SOURCE.sub("", record, count=1).strip()
            found = _NUMBER.search(plain)
            said = _NUMBER.sub("", plain)
            if MARK not in plain and said != BEGUN:
                number = number or (found and found[1])
                records.append(said)
        message = "; ".join(records) or text
        if mark is None:
            return Failure(message, number if number != "0" else None)
        procedure = mark[3].strip() or None
        line = int(mark[2]) or None  # 0: the server does not know
        if line is not None and procedure is None:
            line += batch.line - 1
        return Failure(message, mark[1], line, procedure)
