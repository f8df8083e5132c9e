"""Traffic to ports inside a sandbox."""

import base64
import hashlib
import os
import socket
import time
import urllib.parse

import httpx
import pytest
from support import eventually

# A server with an answer of known bytes, an echo, a slow stream, and what it saw of the request.
SERVER = r"""
import http.server, json, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(4):
                line = b"tick %d\n" % i
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                time.sleep(1)
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/hang":
            time.sleep(600)
        else:
            self.answer(json.dumps({"path": self.path, "headers": dict(self.headers)}).encode())

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""

# The handshake of RFC 6455 and an echo of short masked text frames, with nothing but the library.
WEBSOCKET = r"""
import base64, hashlib, socket, struct
server = socket.create_server(("0.0.0.0", 8090))
while True:
    peer, _ = server.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    key = [l.split(b":", 1)[1].strip() for l in head.split(b"\r\n") if l.lower().startswith(b"sec-websocket-key")][0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        frame = peer.recv(2)
        if len(frame) < 2: break
        length = frame[1] & 127
        mask, data = peer.recv(4), b""
        while len(data) < length:
            data += peer.recv(length - len(data))
        text = bytes(b ^ mask[i % 4] for i, b in enumerate(data))[::-1]
        peer.sendall(bytes([0x81, len(text)]) + text)
"""


@pytest.fixture(scope="module")
def served(sandbox):
    """A server on every address at 8080, one on the loopback only at 8081, a WebSocket at 8090."""
    sandbox.files.write("/home/user/server.py", SERVER)
    sandbox.files.write("/home/user/websocket.py", WEBSOCKET)
    for command in ("server.py 0.0.0.0 8080", "server.py 127.0.0.1 8081", "websocket.py"):
        sandbox.commands.run(f"python3 {command}", background=True)
    ports = "ss -Hltn | awk '{print $4}'"
    wanted = ("0.0.0.0:8080", "127.0.0.1:8081", "0.0.0.0:8090")
    eventually(lambda: all(p in sandbox.commands.run(ports).stdout for p in wanted), seconds=60)
    return sandbox


def test_routing_by_headers(served, edge):
    answer = edge(served, 8080).get("/path?q=1")
    assert answer.status_code == 200
    assert answer.json()["path"] == "/path?q=1"


def test_routing_by_host(served):
    host = served.get_host(8080)
    assert host.startswith(f"8080-{served.sandbox_id}.")
    answer = httpx.get(os.environ["E2B_SANDBOX_URL"] + "/by-host", headers={"Host": host}, timeout=60)
    assert answer.json()["path"] == "/by-host"
    assert answer.json()["headers"]["Host"] == host


def test_a_server_on_the_loopback_only(served, edge):
    assert edge(served, 8081).get("/").status_code == 200


def test_bodies_pass_unchanged(served, edge):
    data = os.urandom(3_000_000)
    answer = edge(served, 8080).post("/echo", content=data)
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(data).digest()


def test_a_stream_comes_as_it_is_sent(served, edge):
    begun, times = time.monotonic(), []
    with edge(served, 8080).stream("GET", "/stream") as answer:
        for line in answer.iter_lines():
            times.append(time.monotonic() - begun)
    assert len(times) == 4
    assert times[-1] - times[0] > 2, "all lines came at once"


def test_websocket(served):
    url = urllib.parse.urlsplit(os.environ["E2B_SANDBOX_URL"])
    with socket.create_connection((url.hostname, url.port or 80), timeout=30) as peer:
        key = base64.b64encode(os.urandom(16)).decode()
        peer.sendall(
            f"GET /socket HTTP/1.1\r\nHost: {served.get_host(8090)}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(4096)
        assert head.startswith(b"HTTP/1.1 101")
        wanted = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        assert wanted in head
        mask, text = b"\x01\x02\x03\x04", b"hello"
        peer.sendall(b"\x81" + bytes([0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
        frame = b""
        while len(frame) < 7:
            frame += peer.recv(64)
        assert frame == b"\x81\x05olleh"


def test_a_closed_port(sandbox, edge):
    answer = edge(sandbox, 7777).get("/")
    assert answer.status_code == 502
    body = answer.json()
    assert body["sandboxId"] == sandbox.sandbox_id
    assert body["port"] == 7777
    assert body["code"] == 502
    assert body["message"] == "The sandbox is running but port is not open"


def test_a_dead_sandbox(make, edge):
    sandbox = make()
    client = edge(sandbox, 49983)
    assert client.get("/health").status_code == 204
    sandbox.kill()
    answer = client.get("/health")
    assert answer.status_code == 502
    assert answer.json() == {
        "sandboxId": sandbox.sandbox_id,
        "message": "The sandbox was not found",
        "code": 502,
    }


def test_connections_end_with_the_sandbox(make, edge):
    sandbox = make()
    sandbox.files.write("/home/user/server.py", SERVER)
    sandbox.commands.run("python3 server.py 0.0.0.0 8080", background=True)
    client = edge(sandbox, 8080)
    eventually(lambda: client.get("/").status_code == 200, seconds=60)
    begun = time.monotonic()
    with pytest.raises(httpx.HTTPError):
        with client.stream("GET", "/stream") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "tick 0"
            sandbox.kill()
            for _ in lines:
                pass
    assert time.monotonic() - begun < 20


def test_half_a_route_is_refused():
    url = os.environ["E2B_SANDBOX_URL"]
    assert httpx.get(url + "/x", headers={"E2b-Sandbox-Id": "iabc"}, timeout=60).status_code == 400
    headers = {"E2b-Sandbox-Id": "iabc", "E2b-Sandbox-Port": "seventy"}
    assert httpx.get(url + "/x", headers=headers, timeout=60).status_code == 400
    headers = {"E2b-Sandbox-Id": "iabc", "E2b-Sandbox-Port": "80"}
    assert httpx.get(url + "/x", headers=headers, timeout=60).status_code == 502
