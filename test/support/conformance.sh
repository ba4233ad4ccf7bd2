#!/usr/bin/env bash
# Why this room exists: the work that pull workers are given by conformance.ts, as a command: the payload comes on standard
# input, the result is printed. What it does is said by the payload, and each start is noted with its process.
# Invariant: what takes long replaces this process, so that the one that was noted is the one that has to end.
# Next room: conformance.ts.
set -euo pipefail
journal=$1 node=$2 payload=$(cat)
printf '%s %s\n' "$$" "$payload" >>"$journal"

starts() { grep -c -F -- " $payload" "$journal"; }

case $payload in
  '"sleep '*)
    seconds=${payload#*sleep }
    exec "$node" -e 'setTimeout(() => console.log(process.argv[1]), process.argv[2] * 1000)' "$(starts)" "${seconds%\"}"
    ;;
  '"flaky"')
    if [ "$(starts)" -eq 1 ]; then
      printf 'out of \0luck\n' >&2 # no store of texts keeps U+0000
      exit 1
    fi
    ;;
  '"bad"') exit 65 ;;
  '"prose"') payload='no JSON' ;;
esac
printf '%s' "$payload"
