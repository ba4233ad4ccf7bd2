#!/usr/bin/env bash
# A first session with Errand in plain curl: submit, poll, follow, demand the answer, repeat safely, cancel.
# It needs a running service with the handler `echo`, which `npm start` loads. Nothing is parsed but one header: the
# Location says where a job is. Any answer that is not the promised one ends the script with exit code 1.
# Setting: ERRAND_URL, default http://127.0.0.1:8080. Next: worker.sh, which runs jobs from the other side.
set -euo pipefail

url=${ERRAND_URL:-http://127.0.0.1:8080}
url=${url%/}
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT

say() { printf '\n%s\n' "$*"; }
fail() {
  printf 'not as promised: %s\n' "$*" >&2
  exit 1
}

# Prints the command as it can be pasted, runs it, and shows status line, Location and body of the last answer.
# After it, $status holds the number and $location the header.
show() {
  local word body
  printf '$ curl'
  for word in "$@"; do
    case $word in
      *[!A-Za-z0-9:/._-]*) printf " '%s'" "$word" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  body=$(curl -sS --max-time 40 -D "$headers" "$@")
  status=$(awk '/^HTTP/ { status = $2 } END { print status }' "$headers")
  location=$(awk '/^HTTP/ { path = "" } tolower($1) == "location:" { path = $2 } END { print path }' "$headers" | tr -d '\r')
  printf '\n< %s%s\n%s\n' "$status" "${location:+  Location: $location}" "$body"
}

json='Content-Type: application/json'

say '1. Submit a job: the answer is 202, and the Location says where to look.'
show "$url/v1/jobs" -H "$json" -d '{"type":"echo","payload":{"hello":"world"}}'
[ "$status" = 202 ] || fail "a submit answered $status"
job=$location

say '2. Poll it: 200 while it is open, 303 to the result at its end. "Prefer: wait" makes the poll a long one.'
for _ in 1 2 3 4 5 6 7 8 9 10; do
  show "$url$job" -H 'Prefer: wait=5'
  [ "$status" = 200 ] || break
done
[ "$status" = 303 ] || fail "the status of a finished job answered $status"

say '3. Or let curl follow the 303: the body is what the handler returned, byte for byte.'
show -L "$url$job"
[ "$status" = 200 ] || fail "the result answered $status"

say '4. Demand the answer in the same call.'
show "$url/v1/jobs" -H "$json" -H 'Expect: 200-ok' -d '{"type":"echo","payload":[1,2,3]}'
[ "$status" = 200 ] || fail "a demand answered $status"

say '5. Send the same call twice under one Idempotency-Key: it is the same job.'
key="curl-session-$$-$RANDOM"
show "$url/v1/jobs" -H "$json" -H "Idempotency-Key: $key" -d '{"type":"echo","payload":"once"}'
first=$location
show "$url/v1/jobs" -H "$json" -H "Idempotency-Key: $key" -d '{"type":"echo","payload":"once"}'
[ "$first" = "$location" ] || fail "one key made two jobs: $first and $location"

say '6. Submit a job for later, and cancel it: a 200 says that it will never run.'
show "$url/v1/jobs" -H "$json" -d '{"type":"echo","payload":"never","delay_seconds":3600}'
show -X POST "$url${location%/status}/cancel"
[ "$status" = 200 ] || fail "the cancel of a waiting job answered $status"

say 'Done: everything was as promised.'
