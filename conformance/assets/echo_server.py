"""e2b-conformance echo server: python3 echo_server.py PORT [ADDRESS [SECONDS BEFORE IT LISTENS]]

Any path answers with the request as JSON; /status/N with status N; /stream with two lines, a second apart;
/endless with a line every tenth of a second; a WebSocket says what it is told.
"""
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.headers.get("upgrade", "").lower() == "websocket":
            return self.socket()
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        path = self.path.split("?")[0]
        if path in ("/stream", "/endless"):
            return self.stream(path == "/endless")
        status = int(path[8:]) if path.startswith("/status/") else 200
        headers = {name.lower(): value for name, value in self.headers.items()}
        text = json.dumps({"method": self.command, "path": self.path, "headers": headers, "body": body.decode("latin-1")})
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("x-conformance", "echo")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def socket(self):
        # Here, so that a server that is only asked starts sooner.
        import base64, hashlib

        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8 or head[1] & 127 > 125:
                return
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(head[1] & 127)))
            self.wfile.write(bytes([head[0], len(data)]) + data)
            self.wfile.flush()

    def stream(self, endless):
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.chunk(b"one\n")
        while endless:
            time.sleep(0.1)
            self.chunk(b"more\n")
        time.sleep(1)
        self.chunk(b"two\n")
        self.chunk(b"")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer

    def log_message(self, *_):
        pass


time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0)
address = sys.argv[2] if len(sys.argv) > 2 else "0.0.0.0"
ThreadingHTTPServer((address, int(sys.argv[1])), Echo).serve_forever()
