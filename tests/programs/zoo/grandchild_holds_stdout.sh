#!/bin/sh
# The grandchild keeps the output open long after the child and we have ended.
(sh -c 'echo $$; exec sleep 600' &)
while ! [ -s "$1" ]; do sleep 0.01; done
