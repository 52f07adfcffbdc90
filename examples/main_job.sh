#!/usr/bin/env bash
# The main job over a base and its fine-tunes: main_job.sh BASE EXPERT [EXPERT…]
#   OP=ties BUDGET=25% PARAMS=weight=1,density=.2 WORK=./work examples/main_job.sh ./base ./math ./code
# Leaves a repository in $WORK and the merged checkpoint in $WORK/out.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }

op=${OP:-ties} budget=${BUDGET:-25%} params=${PARAMS:-weight=1,density=.2} work=${WORK:-./work}
base=$(realpath "$1"); shift
mkdir -p "$work"
mp init "$work"

mp -C "$work" add "$base" --branch base
merge=(--base base --op "$op" --budget "$budget")
for expert in "$@"; do
  name=$(basename "$expert")
  mp -C "$work" add "$(realpath "$expert")" --branch "$name" --base base
  merge+=(--expert "$name:$params")
done

mp -C "$work" plan "${merge[@]}"
mp -C "$work" merge "${merge[@]}" --branch merged
mp -C "$work" log merged --graph --oneline
mp -C "$work" diff base merged --stat
mp -C "$work" checkout merged out
mp -C "$work" fsck
mp -C "$work" stats
