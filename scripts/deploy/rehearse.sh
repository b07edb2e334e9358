#!/bin/bash
# Rehearses an installation on a bare Debian 13: what a new user types, and the steps of the Containerfile, for machines
# without a container engine.
#
#   sudo bash scripts/deploy/rehearse.sh [FOLDER [PYTHON]]
#
# It needs debootstrap. FOLDER is kept, and used again next time. PYTHON is a program in it; default: Debian's python3.
# It shows: `make demo`, README's commands and the first five pages of the guide work, word for word, with nothing but
# Debian's python3, python3-venv, make, git, curl and cron (whose tables a page imports); the image's files install as an
# unprivileged user's program, which serves /readyz, runs a job and ends at TERM. It does not show: Microsoft's driver.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
root=$(realpath -m "${1:-/var/tmp/jobfac-debian}")
python=${2:-python3}
[ "$(id -u)" = 0 ] || { echo "debootstrap needs root: sudo bash $0"; exit 2; }
command -v ip >/dev/null || { echo "There is no ip; install it with: apt-get install iproute2"; exit 2; }
command -v debootstrap >/dev/null || { echo "There is no debootstrap; install it with: apt-get install debootstrap"; exit 2; }

if [ ! -e "$root/.made" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,make,git,ca-certificates,curl,cron trixie "$root"
    touch "$root/.made"
fi
mkdir -p "$root/proc" "$root/dev"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/dev" || mount --rbind /dev "$root/dev"
trap 'umount "$root/proc"; umount -l "$root/dev"' EXIT
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"   # where a proxy reads TLS, its authority is in here

# A user's environment: nothing of this shell's.
inside() { ${where:-} chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$@"; }

echo "== a fresh clone, word for word from the README =="
rm -rf "$root/root/jobfac"
git clone --quiet "$here" "$root/root/jobfac"
inside sh -ec "cd /root/jobfac && make demo PYTHON=$python && .venv/bin/python --version"

echo "== README, typed into an empty folder =="
alone() { unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$@"; }   # a network in which all ports are free
where=alone
rm -rf "$root/root/empty" "$root"/root/readme* && mkdir "$root/root/empty"
awk -v to="$root/root/readme" '/^## / { chapter++ } /^```console/ { shown = 1; next } /^```/ { shown = 0 }
    shown { sub(/^\$ /, ""); print > (to chapter ".sh") }' "$here/README.md"
inside bash -c 'cd /root/empty && PATH=/root/jobfac/.venv/bin:$PATH
    for chapter in /root/readme*.sh; do bash -c ". $chapter; wait" || exit; cd /root/empty/factory; done' \
    > "$root/root/readme.log" 2>&1 || { cat "$root/root/readme.log"; exit 1; }
for part in "2 added" "attempt 1 of run 2" denied "of 4" "IN ITS ZONE" '"id":5' '"state":"succeeded"'; do
    grep -qF "$part" "$root/root/readme.log" || { cat "$root/root/readme.log"; echo "README: no $part"; exit 1; }
done
cat "$root"/root/readme*.sh | wc -l | sed 's/$/ lines were typed/'

echo "== the first five pages of the guide =="
inside sh -ec 'cd /root/jobfac && PATH=$PWD/.venv/bin:$PATH && pages=$(jobfac help | head -n 5 | cut -d " " -f 1) &&
    python -m tests.roles.guide.pages $pages'
where=

echo "== the steps of the Containerfile =="
rm -rf "$root/src" "$root/opt/jobfac" "$root/var/lib/jobfac"
mkdir "$root/src"
awk '$1 == "COPY" && !/--from/ { to = $NF; $1 = ""; $NF = ""; print to $0 }' "$here/scripts/deploy/container/Containerfile" |
    # shellcheck disable=SC2086  # FROM is several files
    while read -r to from; do (cd "$here" && cp -r $from "$root/src/$to"); done
inside sh -ec 'cd /src && '"$python"' -m venv /opt/jobfac && /opt/jobfac/bin/pip install -q -c constraints.txt ".[mssql,otel]"'
inside sh -ec 'id jobfac >/dev/null 2>&1 || useradd --uid 8420 --home-dir /var/lib/jobfac --shell /usr/sbin/nologin jobfac
    install -d -m 0700 -o jobfac -g jobfac /var/lib/jobfac'
inside setpriv --reuid jobfac --regid jobfac --clear-groups sh -ec '
    cd /var/lib/jobfac
    export PATH=/opt/jobfac/bin:$PATH HOME=/var/lib/jobfac XDG_STATE_HOME=/var/lib/jobfac
    export JOBFAC_DATABASE_URL=sqlite:////var/lib/jobfac/jobfac.db JOBFAC_LOG_FORMAT=json
    jobfac up --host 0.0.0.0 --behind-proxy --port 8429 > up.log 2>&1 & role=$!
    for second in $(seq 30); do curl -sf http://127.0.0.1:8429/readyz && break; sleep 1; done; echo
    printf "jobs:\n  hello: {command: [echo, hello]}\n" > jobs.yaml
    jobfac apply jobs.yaml
    jobfac start hello --wait
    kill -TERM $role && wait $role'
echo "== all of it worked =="
