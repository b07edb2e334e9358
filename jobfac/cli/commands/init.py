"""`init` and `schema`: a folder to start from, and the JSON Schema of definitions."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jobfac.cli.common import REFUSED, fail
from jobfac.cli.rendering.printing import print_json


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Created if it does not exist; default: the current folder.")
    ] = Path(),
) -> None:
    """Create a folder with definitions and settings to start from. Nothing is overwritten.

    Example: jobfac init factory
    """
    from jobfac.definitions.json_schema import document_schema
    from jobfac.guide import example

    texts = {
        "jobs.yaml": example("jobs.yaml"),
        "jobfac.toml": example("jobfac.toml"),
        "jobfac.schema.json": json.dumps(document_schema(), indent=2, ensure_ascii=False) + "\n",
    }
    for name in texts:
        if (folder / name).exists():
            fail(REFUSED, f"{folder / name} already exists; name another folder, or move the file.")
    _write(folder, texts)
    for name in texts:
        typer.echo(f"{folder / name} was written")
    typer.echo("Next:")
    if folder.resolve() != Path.cwd():
        typer.echo(f"  cd {_quoted(folder)}")
    for command in ("jobfac db upgrade", "jobfac apply jobs.yaml", "jobfac up"):
        typer.echo(f"  {command}")


def _write(folder: Path, texts: dict[str, str]) -> None:
    """Write the new files into the folder, all of them or none."""
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                written.append(folder / name)
                file.write(text)
    except (OSError, KeyboardInterrupt) as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, KeyboardInterrupt):
            raise
        fail(REFUSED, f"{folder.absolute()} cannot be written: {error.strerror}; name another folder.")


def schema() -> None:
    """Print the JSON Schema of definitions. Editors use it for completion and checks.

    Example: jobfac schema > jobfac.schema.json
    """
    from jobfac.definitions.json_schema import document_schema

    print_json(document_schema())


def _quoted(folder: Path) -> str:
    import shlex

    return shlex.quote(str(folder))
