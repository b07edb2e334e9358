"""Values for the parameters of a job, as the command line gives them."""

from typing import Any

from jobfac.cli.common import NOT_UTF8, USAGE, fail, read_stdin
from jobfac.machine.bounded import read_text


def read_settings(pairs: list[str], file: str | None) -> dict[str, Any]:
    """Return the values of ``--set-file`` and ``--set``, by name; those of ``--set`` have precedence."""
    found = _read_file(file) if file is not None else {}
    return {**found, **read_pairs(pairs, "--set")}


def read_pairs(pairs: list[str], option: str) -> dict[str, Any]:
    """Return values by name. A name that is given several times has a list of values."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            fail(USAGE, f"{option} must be NAME=VALUE, such as day=2027-01-31, not '{pair}'.")
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _read_file(file: str) -> dict[str, Any]:
    from jobfac.definitions import DefinitionError
    from jobfac.definitions.document import read_document

    try:
        text = read_stdin() if file == "-" else read_text(file, "utf-8-sig")
        value = read_document(text).value
    except OSError as error:
        fail(USAGE, f"--set-file {file} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        fail(USAGE, f"--set-file {file} {NOT_UTF8}")
    except DefinitionError as error:
        fail(USAGE, f"--set-file {file}: {error}.")
    if not isinstance(value, dict):
        fail(USAGE, f"--set-file {file} must hold a mapping such as {{day: 2027-01-31}}.")
    return value
