"""Verifies that a request comes from Errand and was not changed (Standard Webhooks 1.0; standard library only).

Copy `is_genuine`. On the command line, with the body on standard input:

    python3 verify_signature.py SECRET WEBHOOK_ID WEBHOOK_TIMESTAMP WEBHOOK_SIGNATURE < body
"""

import base64
import hashlib
import hmac
import sys
import time

TOLERANCE_SECONDS = 300


def is_genuine(secret: str, headers, body: bytes) -> bool:
    """`headers` has a `get`; `body` is the bytes as they came, before anything has parsed them."""
    sent_at = headers.get("webhook-timestamp") or ""
    if not sent_at.isdigit() or abs(time.time() - int(sent_at)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers.get('webhook-id')}.{sent_at}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # Several signatures stand side by side while the secret is being changed.
    given = (headers.get("webhook-signature") or "").split(" ")
    return any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)


if __name__ == "__main__":
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    genuine = is_genuine(sys.argv[1], dict(zip(names, sys.argv[2:])), sys.stdin.buffer.read())
    print("genuine" if genuine else "forged")
