"""An error of SQL Server that jobfac does not know is one sentence, and not the exit code of a run that failed."""

import pytest
import sqlalchemy as sa

from jobfac import cli

SAID = "[42000] [Microsoft][ODBC Driver 18 for SQL Server][SQL Server]The query processor ran out of resources. (8623)"


def test_an_unknown_error_of_the_server_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    error = sa.exc.ProgrammingError("SELECT secret", {}, Exception("42000", SAID))
    assert cli._explain(error) == 5
    shown = capsys.readouterr().err
    assert "The query processor ran out of resources. (8623)" in shown
    assert "SELECT" not in shown


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(sa.exc.ProgrammingError):
        cli._explain(sa.exc.ProgrammingError("SELECT", {}, Exception("no such column")))
