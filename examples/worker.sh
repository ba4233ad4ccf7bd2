#!/usr/bin/env bash
# A pull worker in bash and curl: leases one job at a time, hands its payload to a command, and reports what the command
# printed as the result, both JSON. `TYPE=render examples/worker.sh ./render.sh`; without a command it counts words.
# Exit code 0 of the command completes the job, 65 (bad data) ends it for good, any other is tried again.
# Invariant: a lease that is lost (409) is forgotten and its result dropped, for somebody else has the job now; and SIGTERM
# gives back what is held. Settings: ERRAND_URL, TYPE, LEASE_SECONDS. Next: docs/guides/pull-workers.md.
set -euo pipefail

url=${ERRAND_URL:-http://127.0.0.1:8080}
url=${url%/}
type=${TYPE:-wordcount}
lease_seconds=${LEASE_SECONDS:-30}
[ $# -gt 0 ] || set -- count_words
thousandths=$((lease_seconds * 1000 / 3))
third=$((thousandths / 1000)).$(printf %03d $((thousandths % 1000)))

dir=$(mktemp -d)
lease='' child='' beats='' # child: what `kill` takes, a process or, with a minus, a group of them

# The payload is a text, the result how many words it has.
count_words() {
  local text
  read -r text
  if [[ $text != \"* ]]; then
    echo 'the payload must be a text' >&2
    return 65
  fi
  text=${text#\"}
  # %b knows the escapes of JSON, but not the pairs of \u that stand for one character: enough to count words.
  printf '%b' "${text%\"}" | wc -w
}

# POSTs the body $2 (@: a file) to the path $1, writes the answer to the file $3 and prints the status. It fails when nobody answered.
# It becomes the curl process, so call it in $( ) or in the background: a signal to it then ends the request itself.
post() {
  local path=$1 body=$2 answer=$3
  shift 3
  exec curl -sS --max-time 40 -o "$answer" -w '%{http_code}' -H 'Content-Type: application/json' "$@" \
    --data-binary "$body" "$url$path" 2>"$dir/error"
}

# Bash runs a trap at once while it waits, but not while a command is in the foreground: what takes time goes here.
waiting() {
  local code=0
  "$@" &
  child=$!
  wait "$child" || code=$?
  child=''
  return "$code"
}

# The lease id comes before anything a caller of Errand has chosen, so the first match is the one.
lease_in() { { grep -o '"id":"lse_[^"]*"' "$1" || true; } | sed -n '1s/"id":"\(.*\)"/\1/p'; }

# The payload is the last member of the last member. In the texts before it every quote is escaped, so none of them matches.
payload_in() {
  local answer rest
  answer=$(cat "$1")
  rest=${answer#*\"payload\":}
  [ "$rest" = "$answer" ] || printf '%s' "${rest%\}\}]\}}"
}

# Tells how the job ended until somebody answers. 2xx: it is recorded. 409: the lease was lost. Other 4xx: it is refused.
settle() {
  local status pause=1
  while :; do
    status=$(post "/v1/leases/$lease/$1" "$2" "$dir/settled") || status=000
    case $status in
      2*)
        echo "$1 $lease"
        return
        ;;
      409)
        echo "lost $lease: its result is dropped"
        return
        ;;
      000 | 429 | 5*) waiting sleep "$pause" ;;
      *)
        echo "$1 was refused with $status: $(cat "$dir/settled")" >&2
        return 1
        ;;
    esac
    pause=$((pause < 8 ? pause * 2 : 8))
  done
}

# Runs beside the work, process group $1, and ends it when the job is to be cancelled, and when the lease is lost or was not
# confirmed for so long that somebody else may have the job.
heartbeats() {
  local status confirmed=$SECONDS
  while sleep "$third"; do
    status=$(post "/v1/leases/$lease/heartbeat" "{\"lease_seconds\":$lease_seconds}" "$dir/beat" --max-time "$third") || status=000
    [ "$status" != 200 ] || confirmed=$SECONDS
    if [ "$status" = 409 ] || [ $((SECONDS - confirmed)) -gt "$lease_seconds" ]; then
      touch "$dir/lost"
    elif [ "$status" = 200 ] && grep -q '"cancel_requested":true' "$dir/beat"; then
      touch "$dir/cancelled"
    else
      continue
    fi
    kill -- "-$1"
    return
  done
}

run_one() {
  local payload code=0 class=retryable message
  payload=$(payload_in "$dir/lease")
  if [ -z "$payload" ]; then
    settle fail '{"class":"permanent","message":"the payload is no JSON"}'
    return
  fi
  rm -f "$dir/lost" "$dir/cancelled"
  set -m # a group for the command, to end what it starts along with it
  "$@" <<<"$payload" >"$dir/result" 2>"$dir/message" &
  child=-$!
  set +m
  heartbeats "$!" >/dev/null 2>&1 &
  beats=$!
  wait "${child#-}" || code=$?
  child=''
  # SIGKILL: in its first moment a background process still has the traps of this script, and might run `stop` itself.
  kill -9 "$beats" 2>/dev/null || true
  beats=''
  if [ -e "$dir/lost" ]; then
    echo "lost $lease: the work was stopped"
  elif [ -e "$dir/cancelled" ]; then
    # Of a job that is to be cancelled, giving it back is the consent.
    settle release '{}'
  elif [ "$code" -eq 0 ]; then
    # By way of a file: a result may be longer than a word of a command.
    printf '{"result":%s}' "$(cat "$dir/result")" >"$dir/body"
    settle complete "@$dir/body" ||
      settle fail '{"class":"permanent","message":"the command printed no JSON, or too much"}'
  else
    [ "$code" -ne 65 ] || class=permanent
    # What the command said must fit into a JSON text: ASCII without quotes, backslashes and line ends always does.
    message=$(tr -cd ' !#-[]-~' <"$dir/message" | cut -c 1-500)
    settle fail "{\"class\":\"$class\",\"message\":\"exit code $code: $message\"}"
  fi
}

# SIGTERM: stop the work, give the job back (the attempt does not count), leave.
stop() {
  trap '' TERM INT
  # $! where the signal came between a start and its note. Again and again, because the first moment can swallow a signal.
  child=${child:-${!-}}
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$child" ] && kill -- "$child" 2>/dev/null || break
    sleep 0.2
  done
  [ -z "$child" ] || kill -9 -- "$child" 2>/dev/null || true
  [ -z "$beats" ] || kill -9 "$beats" 2>/dev/null || true
  # The answer to a long poll may have arrived in this very moment.
  [ -n "$lease" ] || lease=$(lease_in "$dir/lease")
  if [ -n "$lease" ]; then
    echo "release $lease: $(post "/v1/leases/$lease/release" '{}' "$dir/settled")"
  fi
  rm -rf "$dir"
  exit 0
}
trap stop TERM INT

echo "waiting for jobs of type $type at $url"
pause=1
while :; do
  : >"$dir/lease"
  ask="{\"worker\":\"bash-$$\",\"types\":[\"$type\"],\"limit\":1,\"lease_seconds\":$lease_seconds}"
  # Half an answer has a status too, but no lease that could be trusted.
  waiting post /v1/leases "$ask" "$dir/lease" -H 'Prefer: wait=20' >"$dir/status" || echo 000 >"$dir/status"
  case $(cat "$dir/status") in
    200)
      pause=1
      lease=$(lease_in "$dir/lease")
      if [ -n "$lease" ]; then
        echo "started $lease"
        run_one "$@" || true
        lease=''
        : >"$dir/lease"
      fi
      ;;
    000 | 429 | 5*)
      echo "no lease: $(cat "$dir/status" "$dir/error")"
      waiting sleep "$pause"
      pause=$((pause < 8 ? pause * 2 : 8))
      ;;
    *)
      echo "the service hands out no jobs: $(cat "$dir/lease")" >&2
      rm -rf "$dir"
      exit 1
      ;;
  esac
done
