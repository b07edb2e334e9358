#!/bin/sh
# Leaves a child behind and ends.
sleep 600 &
echo $!
