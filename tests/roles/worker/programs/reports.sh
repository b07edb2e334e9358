#!/bin/sh
# The same in shell.
echo '{"progress": 0.5, "message": "half way"}' >>"$JOBFAC_REPORT"
until [ -z "$1" ] || [ -e "$1" ]; do sleep 0.02; done
echo '{"outputs": {"rows": 12}, "exit_message": "12 rows"}' >>"$JOBFAC_REPORT"
echo done
