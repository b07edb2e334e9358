#!/bin/sh
# Starts something with a clean environment in a new session, waits for the file $2, and leaves it ($1: "bare" without output).
case $1 in
bare) env -i setsid sleep 600 </dev/null >/dev/null 2>&1 & ;;
*) env -i setsid sleep 600 & ;;
esac
echo $!
until [ -e "$2" ]; do sleep 0.01; done
