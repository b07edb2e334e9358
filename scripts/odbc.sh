#!/bin/sh
# pyodbc needs the system's ODBC manager. Install it where that is possible; elsewhere say what will not be tested.
.venv/bin/python -c 'import pyodbc' 2>/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing libodbc2 and libltdl7 for pyodbc"
    apt-get update -qq >/dev/null && apt-get install -y -qq libodbc2 libltdl7 >/dev/null 2>&1
fi
.venv/bin/python -c 'import pyodbc' 2>/dev/null && exit 0
echo "NOT TESTED: the mssql dialect through pyodbc, because libodbc is missing; install it with: sudo apt-get install libodbc2 libltdl7"
