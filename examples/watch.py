#!/usr/bin/env python3
# Watches a job to its end on the Python standard library and prints what happens: the reader of an event stream.
# Invariant: whatever cuts the connection, it goes on behind the last event it has seen whole, so none is lost and none is
# printed twice. Usage: watch.py ID. Settings: ERRAND_URL.
# Next: docs/guides/watching.md.
import http.client, json, os, sys, time, urllib.error, urllib.request

URL = os.environ.get("ERRAND_URL", "http://127.0.0.1:8080").rstrip("/")
SILENCE_SECONDS = 60  # a comment comes every 15 s: after this long without one the connection is dead


def events(job_id):
    """Yields (event, data) until the job has ended."""
    seen, pause = None, 2
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": seen} if seen else {})}
        request = urllib.request.Request(f"{URL}/v1/jobs/{job_id}/events", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as answer:
                if answer.status == 204:  # it ended, and everything was told
                    return
                for fields in frames(answer):
                    if "retry" in fields:
                        pause = int(fields["retry"]) / 1000
                    if "data" in fields:
                        seen = fields["id"]
                        yield fields["event"], json.loads(fields["data"])
                        if fields["event"] == "done":
                            return
        except urllib.error.HTTPError as error:
            with error:
                if error.code < 500 and error.code != 429:
                    raise
                pause = int(error.headers.get("Retry-After") or pause)
        except (OSError, http.client.HTTPException):  # refused, reset, silent, cut off in the middle
            pass
        time.sleep(pause)


def frames(answer):
    """Yields the fields of each frame that came whole; a frame ends with an empty line, lines of data are joined."""
    fields = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        if name:
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        elif line in (b"\n", b"\r\n"):
            yield fields
            fields = {}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: watch.py ID")
    for event, data in events(sys.argv[1]):
        print(event, json.dumps(data), flush=True)
