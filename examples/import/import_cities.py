#!/usr/bin/env python3
# The worker of the import: takes a slice of cities from Errand and hands it to the application that owns the table.
# Invariant: job id and epoch go along with every effect; that, and not luck, is why each city counts once however often
# this process is killed. Settings: those of ../worker.py, and APP_URL. Next: app.ts.
import os, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from worker import JobFailed, LeaseLost, Worker, post

APP_URL = os.environ.get("APP_URL", "http://127.0.0.1:8090").rstrip("/")


def import_slice(lease):
    slice_ = {"job_id": lease.job["id"], "epoch": lease.epoch, "cities": lease.job["payload"]["cities"]}
    status, answer, _ = post(f"{APP_URL}/slices", slice_, timeout=30)
    if status == 200:
        return answer
    if status == 409:
        raise LeaseLost(answer)
    if 400 <= status < 500:
        raise JobFailed(f"the application refuses the slice: {status} {answer}", "permanent")
    raise JobFailed(f"the application answered {status} {answer}", retry_after_seconds=1)


if __name__ == "__main__":
    Worker({"import.cities": import_slice}).run()
