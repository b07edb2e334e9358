#!/bin/sh
# Installs jobfac @VERSION@ without a network:  sh THIS_FILE FOLDER
# It makes a virtual environment in FOLDER with Python @PYTHON@ (PYTHON=... names another executable of that version).
set -eu

fail() { echo "$1" >&2; exit 1; }

[ $# -eq 1 ] || fail "Say where to install jobfac: sh $0 /opt/jobfac"
case "$1" in -*) fail "Say where to install jobfac: sh $0 /opt/jobfac" ;; esac
python=${PYTHON:-$(command -v python@PYTHON@ || echo python3)}
command -v "$python" >/dev/null || fail "There is no $python here; install Python @PYTHON@, or name it with PYTHON=/path/to/python@PYTHON@."
# -I everywhere: without it, Python would load modules that anybody has left in the current folder, such as /tmp.
found=$("$python" -I -c 'import sys, sysconfig; print("%d.%d" % sys.version_info[:2], sysconfig.get_platform())')
[ "$found" = "@PYTHON@ @PLATFORM@" ] || fail "This bundle is for Python @PYTHON@ on @PLATFORM@, and $python is $found; build one for it with make bundle."
"$python" -I -c 'import venv' 2>/dev/null || fail "$python lacks its venv module; on Debian and Ubuntu install python@PYTHON@-venv."

umask 022  # the roles' user must be able to read it
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
trap 'exit 130' INT TERM
start=$(awk '/^__WHEELS__$/ { print NR + 1; exit }' "$0")
tail -n +"$start" "$0" | tar -xf - -C "$wheels" || fail "$0 is damaged or incomplete; copy it again."
"$python" -I -m venv --without-pip "$1" || fail "A virtual environment cannot be made in $1."
into=$1
install() { "$into/bin/python" -I "$pip/pip" install --quiet --disable-pip-version-check --no-index --find-links "$wheels" "$@"; }
for pip in "$wheels"/pip-*.whl; do
    install --upgrade '@WANTED@' pip
    install --force-reinstall --no-deps "$wheels"/jobfac-*.whl # pip leaves another build of the same version in its place
done
echo "jobfac @VERSION@ is installed: $1/bin/jobfac --help"
exit 0
__WHEELS__
