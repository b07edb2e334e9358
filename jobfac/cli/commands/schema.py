"""`schema`: the JSON Schema of definitions."""

from jobfac.cli.common import print_json


def schema() -> None:
    """Print the JSON Schema of definitions, for editors that complete and check them.

    Example: jobfac schema > jobfac.schema.json
    """
    from jobfac.definitions.json_schema import document_schema

    print_json(document_schema())
