#!/bin/sh
# Generates a Python client from the OpenAPI document and fails if the generator drops an operation: make client
# The generator needs another version of typer than jobfac, so it runs in an environment of its own.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python - "$folder/openapi.json" <<'END'
import json
import sys
from pathlib import Path

from jobfac.api import TABLE, openapi

Path(sys.argv[1]).write_text(json.dumps(openapi.document(TABLE)))
END
.venv/bin/uv tool run --quiet openapi-python-client@0.29.1 generate --meta none --path "$folder/openapi.json" \
    --output-path "$folder/client" >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
if grep -q WARNING "$folder/log"; then cat "$folder/log"; exit 1; fi
wanted=$(grep -o '"operationId"' "$folder/openapi.json" | wc -l)
found=$(find "$folder/client/api" -name '*.py' ! -name '__init__.py' | wc -l)
echo "$found of $wanted operations are in the generated client"
[ "$found" = "$wanted" ]
