#!/usr/bin/env python3
# A push target on the Python standard library: verifies that a request comes from Errand, runs the job, and answers with
# its result. Work that takes longer is taken over with 202 and completed later by its lease.
# Invariant: a job that comes again is answered as it was the first time, and its work is not done again.
# Settings: SIGNING_SECRET (one of ERRAND_SIGNING_SECRETS), ERRAND_URL, PORT. Next: docs/guides/push.md.
import http.server, json, os, signal, threading, time, urllib.error, urllib.request

from verify_signature import is_genuine

SECRET = os.environ["SIGNING_SECRET"]
ERRAND_URL = os.environ.get("ERRAND_URL", "http://127.0.0.1:8080").rstrip("/")
done = {}  # answers by job id; a real target keeps them in its database, in one transaction with the effect
taken = {}  # the newest lease of each job that was taken over


def run(payload):
    """The work: counts words. Raises ValueError for what will never be right."""
    if not isinstance(payload, dict) or not isinstance(payload.get("text"), str):
        raise ValueError("the payload must be an object with a text")
    time.sleep(payload.get("takes_seconds", 0))
    return {"words": len(payload["text"].split())}


class Target(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open for the next job

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_genuine(SECRET, self.headers, body):
            return self.answer(401, {"detail": "the signature does not fit"})
        job_id, payload = self.headers["webhook-id"], json.loads(body)
        if job_id in done:
            return self.answer(*done[job_id])
        if isinstance(payload, dict) and payload.get("takes_seconds", 0) > 1:
            if job_id not in taken:
                threading.Thread(target=finish_later, args=(job_id, payload)).start()
            taken[job_id] = self.headers["Errand-Lease"]
            return self.answer(202)
        try:
            done[job_id] = (200, run(payload))
        except ValueError as error:
            done[job_id] = (422, {"detail": str(error)})
        self.answer(*done[job_id])

    def answer(self, status, content=None):
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        # A failure in this form is shown with the job.
        self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *words):
        print(form % words, flush=True)


def finish_later(job_id, payload):
    """The work after a 202: nobody waits for it, so its end is told to the lease. Repeated until somebody answers."""
    result = run(payload)
    done[job_id] = (200, result)
    lease, body = taken.pop(job_id), json.dumps({"result": result}).encode()
    url, headers = f"{ERRAND_URL}/v1/leases/{lease}/complete", {"Content-Type": "application/json"}
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10):
                return print(f"{job_id} is complete", flush=True)
        except urllib.error.HTTPError as error:
            if error.code < 500:  # 409: the job is in other hands, its result is dropped
                return print(f"{job_id} was not completed: {error.code}", flush=True)
        except OSError:
            pass
        time.sleep(1)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Target)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"waiting for jobs on port {server.server_port}", flush=True)
    server.serve_forever()
