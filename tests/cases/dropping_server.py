"""An MLflow server that answers two requests and then drops most connections: `python dropping_server.py PORT`."""

import json
import socket
import sys

EXPERIMENT = {
    "experiment_id": "1",
    "name": "dfloc",
    "artifact_location": "mlflow-artifacts:/1",
    "lifecycle_stage": "active",
}
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def serve(port: int) -> None:
    """Answer until the process is ended."""
    body = json.dumps({"experiment": EXPERIMENT}).encode()
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(50)
        seen = 0
        while True:
            peer, _ = server.accept()
            seen += 1
            with peer:
                if seen <= 2 or seen % 6 in (1, 2):
                    peer.recv(65536)
                    peer.sendall(HEAD % len(body) + body)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
