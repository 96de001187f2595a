"""An MLflow server that answers two requests, then drops most of them, for 300 s: python dropping_server.py PORT."""

import json
import socket
import sys
import time

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen(50)
server.settimeout(1)
seen, end = 0, time.time() + 300
while time.time() < end:
    try:
        peer, _ = server.accept()
    except TimeoutError:
        continue
    seen += 1
    if seen > 2 and seen % 6 not in (1, 2):
        peer.close()
        continue
    peer.recv(65536)
    experiment = {
        "experiment_id": "1",
        "name": "dfloc",
        "artifact_location": "mlflow-artifacts:/1",
        "lifecycle_stage": "active",
    }
    body = json.dumps({"experiment": experiment}).encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    peer.sendall(head % len(body) + body)
    peer.close()
