#!/usr/bin/env python3
# A pull worker on the Python standard library: leases jobs over HTTP, keeps the leases alive while it works, and tells
# how each job ended. A worker of your own is one function: `count_words` below, or import/import_cities.py. Words after the
# name are a command to run instead: TYPE=render examples/worker.py ./render.sh
# Invariant: a lease that is lost (409) is forgotten and its result dropped, for somebody else has the job now; and SIGTERM
# gives back what is held, without costing an attempt. Settings: ERRAND_URL, TYPE, SLOTS, LEASE_SECONDS.
# Next: docs/guides/pull-workers.md.
import http.client, json, os, random, signal, subprocess, sys, threading, time, traceback, urllib.error, urllib.request

URL = os.environ.get("ERRAND_URL", "http://127.0.0.1:8080").rstrip("/")
TYPE = os.environ.get("TYPE", "wordcount")
SLOTS = int(os.environ.get("SLOTS", "4"))  # jobs at once
LEASE_SECONDS = int(os.environ.get("LEASE_SECONDS", "30"))
POLL_SECONDS = 20
STOP_SECONDS = 2  # for work to notice that it should stop
NAME = f"python-{os.getpid()}"


class JobFailed(Exception):
    """Raise it to say how an attempt failed: retryable, permanent, poison or rate_limited. Any other error is retryable."""

    def __init__(self, message, error_class="retryable", retry_after_seconds=None):
        super().__init__(message)
        self.error_class, self.retry_after_seconds = error_class, retry_after_seconds


class LeaseLost(Exception):
    """Raise it when a fence of your own says that a later start of the job has taken over."""


class Stopped(Exception):
    """Raise it when `lease.stop` is set and you have stopped."""


class Lease:
    """The right to run one start of one job. Write `epoch` with your effects to refuse those of an older start."""

    def __init__(self, wire):
        self.id, self.epoch, self.attempt, self.job = wire["id"], wire["epoch"], wire["attempt"], wire["job"]
        self.stop = threading.Event()  # set when the lease is lost or the job is to be cancelled: look at it now and then
        self.lost, self.over = False, threading.Event()


def post(url, body, headers=None, timeout=10):
    """One POST of JSON: (status, answer, seconds to wait before a repetition); status 0 when nobody answered."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        try:
            answer = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:  # an answer like any other
            answer = error
        with answer:
            told, after = answer.read().decode(), answer.headers.get("Retry-After", "")
            if told and "json" in answer.headers.get("Content-Type", ""):
                told = json.loads(told)
            return answer.status, told, int(after) if after.isdigit() else 0
    except (OSError, http.client.HTTPException, ValueError) as error:  # refused, reset, timed out, cut off in the middle
        return 0, str(error), 0


def persist(url, body, headers=None, timeout=10):
    """Repeats the POST, ever more rarely, while nobody answers or the answer is 429 or 5xx."""
    pause = 0.1
    while True:
        status, answer, after = post(url, body, headers, timeout)
        if 0 < status < 500 and status != 429:
            return status, answer
        time.sleep(max(after, pause * random.uniform(0.5, 1)))
        pause = min(pause * 2, 5)


class Worker:
    def __init__(self, work):
        self.work, self.held, self.free = work, {}, threading.Semaphore(SLOTS)

    def run(self):
        """Works until SIGTERM or SIGINT, then gives back what it holds and leaves with exit code 0."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: sys.exit(0))
        print(f"{NAME} waits for {', '.join(self.work)} at {URL}", flush=True)
        try:
            while True:
                self.lease()
        except SystemExit as leaving:
            code = leaving.code
        # Out here the call that waited for jobs is closed; inside, it could still be handed what is given back.
        self.give_back()
        # At once: threads that still work must not get to report anything, their jobs belong to others now.
        os._exit(code)

    def give_back(self):
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_IGN)
        for lease in list(self.held.values()):
            lease.stop.set()
        patience = time.monotonic() + STOP_SECONDS
        while self.held and time.monotonic() < patience:
            time.sleep(0.02)
        for lease in list(self.held.values()):  # work that does not look at `stop`
            status, _, _ = post(f"{URL}/v1/leases/{lease.id}/release", {})
            print(f"job {lease.job['id']} given back: {status}", flush=True)

    def lease(self):
        self.free.acquire()
        slots = 1
        while slots < SLOTS and self.free.acquire(blocking=False):
            slots += 1
        ask = {"worker": NAME, "types": list(self.work), "limit": slots, "lease_seconds": LEASE_SECONDS}
        status, answer = persist(f"{URL}/v1/leases", ask, {"Prefer": f"wait={POLL_SECONDS}"}, POLL_SECONDS + 10)
        if status != 200:
            print(f"the service hands out no jobs: {status} {answer}", file=sys.stderr, flush=True)
            sys.exit(1)
        for lease in map(Lease, answer["leases"]):
            slots -= 1
            self.held[lease.id] = lease
            print(f"job {lease.job['id']} started", flush=True)
            for task in (self.run_one, self.keep):
                threading.Thread(target=task, args=(lease,), daemon=True).start()
        for _ in range(slots):
            self.free.release()

    def keep(self, lease):
        """Heartbeats, each lease in a thread of its own, so that one slow answer does not cost the other leases."""
        beat, confirmed = f"{URL}/v1/leases/{lease.id}/heartbeat", time.monotonic()
        while not lease.over.wait(LEASE_SECONDS / 3):
            status, answer, _ = post(beat, {"lease_seconds": LEASE_SECONDS}, timeout=max(1, LEASE_SECONDS / 3))
            if status == 200:
                confirmed = time.monotonic()
            lease.lost = lease.lost or status == 409
            # Without a confirmation for the length of the lease, somebody else may run the job already.
            silent = time.monotonic() - confirmed > LEASE_SECONDS
            if lease.lost or silent or (status == 200 and answer["cancel_requested"]):
                lease.stop.set()

    def run_one(self, lease):
        became = "not told how it ended: its lease runs out, and it is run again"
        try:
            verb, body = self.ending(lease)
            became = "lost, what came of it is dropped" if lease.lost else self.tell(lease, verb, body)
        finally:  # whatever happened, the slot is for the next job
            lease.over.set()
            del self.held[lease.id]
            self.free.release()
            print(f"job {lease.job['id']} {became}", flush=True)

    def ending(self, lease):
        """Does the work; the call that tells how it ended, and its body."""
        try:
            return "complete", {"result": as_json(self.work[lease.job["type"]](lease))}
        except LeaseLost:
            lease.lost = True
            return "release", {}  # which nobody is told any more
        except Stopped:
            return "release", {}  # of a job that is to be cancelled, this is the consent
        except JobFailed as error:
            return "fail", failure(error.error_class, str(error), error.retry_after_seconds)
        except Exception as error:
            traceback.print_exc()
            return "fail", failure("retryable", repr(error))

    def tell(self, lease, verb, body):
        """A settlement may be repeated: after its success the same call succeeds again."""
        status, answer = persist(f"{URL}/v1/leases/{lease.id}/{verb}", body)
        if status == 200:
            return verb
        if status == 409:
            return "lost, what came of it is dropped"
        if verb == "complete":
            return self.tell(lease, "fail", failure("permanent", f"the result was refused: {status} {answer}"))
        return f"{verb} was refused: {status} {answer}"


def as_json(result):
    """The result, if it can be sent; if not, the same work would bring it again."""
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise JobFailed(f"the result is not JSON: {error}", "permanent")
    return result


def failure(error_class, message, retry_after_seconds=None):
    # A message may be any text: the service drops from it what cannot be kept.
    after = {} if retry_after_seconds is None else {"retry_after_seconds": retry_after_seconds}
    return {"class": error_class, "message": message[:1000], **after}


def command(words):
    """Work that a program does: it gets the payload on its standard input and prints the result, both JSON. Exit code 0
    completes the job, 65 (bad data) ends it for good, any other is tried again."""

    def work(lease):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = subprocess.Popen(words, **pipes, start_new_session=True)  # a group, to end what it starts along with it
        given, printed = json.dumps(lease.job["payload"]).encode(), None
        while printed is None:
            try:
                printed, said = program.communicate(given, timeout=0.2)
            except subprocess.TimeoutExpired:
                given = None
                if lease.stop.is_set():
                    os.killpg(program.pid, signal.SIGTERM)
        if program.returncode == 0:
            try:
                return json.loads(printed)
            except ValueError:
                raise JobFailed("what the command printed is no JSON", "permanent")
        if lease.stop.is_set():
            raise Stopped
        kind = "permanent" if program.returncode == 65 else "retryable"
        raise JobFailed(f"exit code {program.returncode}: {said.decode(errors='replace')}", kind)

    return work


def count_words(lease):
    """The payload is a text, the result how many words it has."""
    if not isinstance(lease.job["payload"], str):
        raise JobFailed("the payload must be a text", "permanent")
    return len(lease.job["payload"].split())


if __name__ == "__main__":
    Worker({TYPE: command(sys.argv[1:]) if sys.argv[1:] else count_words}).run()
