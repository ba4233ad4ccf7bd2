#!/usr/bin/env bash
# A test of your own in plain curl, as a CI would run it: days of a job and of a schedule in no time. It needs a service in the test mode,
# ERRAND_TEST_CLOCK=true, on a database of its own. Any answer that is not the promised one ends it with exit code 1.
# Setting: ERRAND_URL, default http://127.0.0.1:8080. Next: docs/guides/testing.md.
set -euo pipefail

url=${ERRAND_URL:-http://127.0.0.1:8080}
url=${url%/}
json='Content-Type: application/json'
type="reminder-$$"

post() { curl -sS --fail-with-body --max-time 40 -X POST "$url$1" -H "$json" -d "$2"; }
member() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }
state() { curl -sS --fail-with-body --max-time 40 "$url/v1/jobs/$1" | member state; }
runs() { curl -sS --fail-with-body --max-time 40 "$url/v1/schedules/$1/runs?outcome=$2" | grep -o '"slot"' | wc -l | tr -d ' '; }
expect() {
  printf '%s: %s\n' "$1" "$2"
  [ "$2" = "$3" ] || { printf 'not as promised: %s, not %s\n' "$2" "$3" >&2 && exit 1; }
}

# From here on time passes only where it is told to, so the test is the same each time it runs.
post /test/clock '{"frozen":true}'
echo

job=$(post /v1/jobs "{\"type\":\"$type\",\"delay_seconds\":86400,\"max_attempts\":2}" | member id)
post /test/clock '{"advance_seconds":86399}' > /dev/null
expect 'a second before a day is over' "$(state "$job")" scheduled
post /test/clock '{"advance_seconds":1}' > /dev/null
expect 'after a day' "$(state "$job")" queued

post /v1/leases "{\"worker\":\"test\",\"types\":[\"$type\"],\"lease_seconds\":30}" > /dev/null
expect 'with a worker' "$(state "$job")" running
post /test/clock '{"advance_seconds":31}' > /dev/null
expect 'after its worker was not heard of for 31 s' "$(state "$job")" queued

slot=$(curl -sS --fail-with-body --max-time 40 -X PUT "$url/v1/schedules/$type" -H "$json" \
  -d "{\"cron\":\"0 2 * * *\",\"timezone\":\"Europe/Berlin\",\"job\":{\"type\":\"$type\"}}" | member next_slot)
post /test/clock "{\"now\":\"$slot\"}" > /dev/null
expect 'slots fired on time, at two in the morning' "$(runs "$type" on_time)" 1
# Three nights without Errand, which is back four hours after the last: the newest is caught up.
post /test/clock '{"advance_seconds":273600}' > /dev/null
expect 'slots skipped after an outage' "$(runs "$type" skipped)" 2
expect 'slots caught up' "$(runs "$type" caught_up)" 1

post /test/clock '{"frozen":false}'
printf '\nDone: everything was as promised.\n'
