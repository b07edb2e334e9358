"""Generates the guide's reference pages from the models of definitions and the settings: `make reference`.

The pages are ``jobfac/guide/reference.md``, ``jobfac/guide/settings.md`` and the manual page ``jobfac/guide/jobfac.1``.
With ``--check`` it writes nothing and exits with 1 if a page is stale.
"""

import dataclasses
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobfac.definitions.json_schema import COMMON, MODELS, document_schema, properties
from jobfac.definitions.models import Job, Sequence
from jobfac.definitions.values import Model
from jobfac.settings import Settings
from jobfac.settings.values import wanted
from scripts import manpage

GUIDE = Path(__file__).parents[1] / "jobfac" / "guide"

PLACES = {
    "Job": "a job",
    "Sql": "`sql`",
    "Sequence": "a sequence",
    "Parameter": "`parameters`",
    "Schedule": "`schedules`",
    "Dates": "`dates`",
    "Times": "`times`",
    "Missed": "`missed`",
    "Calendar": "`calendar`",
    "After": "`after`",
    "Upstream": "a job in `after`",
    "Step": "`steps`",
    "Approve": "`approve`",
    "Wait": "`wait`",
    "StartIf": "`start_if`",
    "Call": "`call`",
    "Signature": "`signature`",
    "Limits": "`limits`",
    "Retry": "`retry`",
    "Concurrency": "`concurrency`",
    "Retention": "`retention`",
    "Expect": "`expect`",
    "Usual": "`warn_after`",
    "Output": "`output`",
    "Rotate": "`rotate`",
    "Notify": "`notify`",
    "Recipient": "`to`",
    "Secret": "a secret",
    "Defaults": "`defaults`",
}
"""The heading of each model's chapter: the key that contains the model."""

INTRODUCTION = """\
# Reference: look up a key of a definition

You write a definition and need the exact name, form and default of a key. A file has `jobs`, a mapping of job ids to
definitions, and may have `defaults`, a mapping of categories. A definition with `command` or `sql` is a job; one with
`steps` is a sequence. `jobfac schema` prints the same as a JSON Schema for editors.

A duration is `30m`, `1h30m`, `500ms` or a number of seconds. A size is `1MiB`, `500kB` or a number of bytes. An id has
letters, digits, `.`, `_` and `-`, at most 128. "One or a list" means that a single value needs no brackets.

This page is generated: `make reference` writes it.
"""

SETTINGS = """\
# Settings: look up a setting, its variable and its default

You want to change how jobfac works on a machine. Each setting has an environment variable and a key in `jobfac.toml`,
which is read from the current directory or from the path in `JOBFAC_CONFIG`. The environment wins over the file, and an
option of a command wins over both. `jobfac config` shows what holds and where it comes from. Times are in seconds.

```toml
# jobfac.toml
database_url = "mssql+pyodbc://user:password@server/database"
lease = 30.0
```

This page is generated: `make reference` writes it.
"""


def definitions_page() -> str:
    """The reference page of all keys of definitions, as Markdown."""
    schema = document_schema()
    parts = [INTRODUCTION, _chapter("Keys of jobs and sequences", schema, Job, COMMON)]
    for model in MODELS:
        keys = set(model.model_fields) - (COMMON if model in (Job, Sequence) else frozenset())
        parts.append(_chapter(f"Keys of {PLACES[model.__name__]}", schema, model, keys))
    return "\n".join(parts)


def settings_page() -> str:
    """The reference page of all settings, as Markdown."""
    lines = [SETTINGS]
    for field in dataclasses.fields(Settings):
        kind = wanted(type(field.default), field.metadata).removesuffix(" in quotes").removeprefix("a ")
        default = "" if field.default == "" else f", default `{json.dumps(field.default)}`"
        lines.append(f"- **`{field.name}`** (`JOBFAC_{field.name.upper()}`): *{kind}*{default}.")
        lines += _wrapped(_capital(field.metadata["help"]) + ".")
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """The text of each generated page, by path."""
    return {
        GUIDE / "reference.md": definitions_page(),
        GUIDE / "settings.md": settings_page(),
        GUIDE / "jobfac.1": manpage.text(),
    }


def _chapter(title: str, schema: Mapping[str, Any], model: type[Model], keys: set[str] | frozenset[str]) -> str:
    found = properties(schema, model)
    lines = [f"## {title}", ""]
    for name in model.model_fields:
        if name in keys:
            lines += _entry(name, found[name], model.model_fields[name].is_required())
    return "\n".join(lines) + "\n"


def _entry(name: str, field: Mapping[str, Any], required: bool) -> Iterator[str]:
    default = field.get("default")
    kind = f"*{_form(field)}*"
    if required:
        kind += ", required"
    elif default not in (None, [], {}):
        kind += f", default `{_value(default)}`"
    yield f"- **`{name}`**: {kind}."
    yield from _wrapped(_description(field))
    if examples := field.get("examples"):
        yield f"  Example: `{name}: {_value(examples[0])}`."


def _description(field: Mapping[str, Any]) -> str:
    return " ".join(str(field.get("description") or "").split())


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _value(value: Any) -> str:
    """The value in the flow style of YAML, with quotes only where needed."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_./][\w./+-]*|\d+(ms|[a-zA-Z]+)", value)
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def _form(field: Mapping[str, Any]) -> str:
    """The allowed values of a field, in words."""
    parts = [part for part in (field.get("anyOf") or field.get("oneOf") or ()) if part.get("type") != "null"]
    if "title" in field:
        return str(field["title"])
    if "const" in field or "enum" in field:
        return _alternatives([f"`{word}`" for word in field.get("enum", [field.get("const")])])
    if len(parts) == 2 and parts[1] == {**parts[1], "type": "array"} and parts[1].get("items") == parts[0]:
        return f"{_form(parts[0])}, one or a list"
    if parts:
        forms = list(dict.fromkeys(_form(part) for part in parts))
        return _alternatives([form for form in forms if not (form == "whole number" and "text" in forms)])
    if "$ref" in field:
        return "mapping"
    match field.get("type"):
        case "array":
            return f"list of {_form(field['items'])}"
        case "object":
            return _mapping(field)
        case "integer":
            return "whole number" + _range(field)
        case "number":
            return "number" + _range(field)
        case "boolean":
            return "true or false"
        case _:
            return "text"


def _alternatives(forms: list[str]) -> str:
    return " or ".join([", ".join(forms[:-1]), forms[-1]]) if len(forms) > 1 else forms[0]


def _mapping(field: Mapping[str, Any]) -> str:
    names = field.get("propertyNames", {})
    words = names.get("enum", [names["const"]] if "const" in names else [])
    if words:
        return _alternatives([f"`{{{word}: ...}}`" for word in words])
    values = field.get("additionalProperties") or next(iter(field["patternProperties"].values()))
    return "mapping to " + _form(values)


def _range(field: Mapping[str, Any]) -> str:
    return f" from {_number(field['minimum'])} to {_number(field['maximum'])}" if "maximum" in field else ""


def _number(value: float) -> str:
    return f"{value:,}" if abs(value) >= 10_000 else f"{value:g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def main() -> int:
    """Write the pages, or with ``--check`` print the stale ones; returns the exit code."""
    check = "--check" in sys.argv[1:]
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            path.write_text(pages()[path], encoding="utf-8")
        print(f"{path.name} {'is stale; run make reference' if check else 'is written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
