#!/bin/sh
# witness.sh SECONDS [CODE [LATER]]: takes SECONDS, or LATER when it is not the first attempt, and writes into the folder
# $JOURNAL when it starts and when it ends. The lock on its run's file goes only when the last of its processes is gone,
# so whoever does not get it runs at the same time as another attempt.
exec 9>>"$JOURNAL/$JOBFAC_RUN_ID.lock"
flock -n 9 || echo "overlap $JOBFAC_RUN_ID $JOBFAC_ATTEMPT 0" >>"$JOURNAL/log"
echo "start $JOBFAC_RUN_ID $JOBFAC_ATTEMPT $$" >>"$JOURNAL/log"
seconds=$1
[ "$JOBFAC_ATTEMPT" = 1 ] || seconds=${3:-$1}
[ "$seconds" = 0 ] || sleep "$seconds"
echo "end $JOBFAC_RUN_ID $JOBFAC_ATTEMPT ${2:-0}" >>"$JOURNAL/log"
exit "${2:-0}"
