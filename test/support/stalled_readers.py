"""Readers of event streams that do not read, until they are told to: connects, prints a line, and waits for a line on stdin;
then reads all streams to their end and prints what was in them. Segments and buffers are small, so that the system keeps
little for such a reader and the service feels it soon. Arguments: port, path, number of readers."""

import json
import resource
import socket
import sys

port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

readers = []
for _ in range(count):
    reader = socket.socket()
    reader.settimeout(30)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    reader.connect(("127.0.0.1", port))
    reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
    readers.append(reader)
print("open", flush=True)

if not sys.stdin.readline():
    sys.exit()

done, cut, reports = 0, 0, []
for reader in readers:
    received = bytearray()
    try:
        while piece := reader.recv(65536):
            received += piece
    except OSError:
        pass
    # The end of a chunked answer; a stream that was cut has none.
    if received.endswith(b"0\r\n\r\n"):
        done += b"event: done" in received
    else:
        cut += 1
    reports.append(received.count(b"event: progress"))
print(json.dumps({"done": done, "cut": cut, "least": min(reports), "most": max(reports)}), flush=True)
