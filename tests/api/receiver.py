"""A receiver of webhooks over TLS that keeps what it gets and answers as the path says; and servers that are none."""
import collections
import http.server
import os
import socket
import ssl
import subprocess
import threading
import time

from conftest import preloaded, until

Call = collections.namedtuple("Call", "path headers body at")


def certificate(folder, days=2):
    """(certificate, key) for localhost and the names of rebind.c."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days), "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,DNS:moving.test", "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    return folder / "cert", folder / "key"


def system_trusts(folder, certificate):
    """The environment of a program in which the system's folder of authorities holds this certificate alone."""
    trusted = folder / "system"
    trusted.mkdir()
    (trusted / "authority.pem").write_bytes(certificate.read_bytes())
    return {"LD_PRELOAD": str(preloaded(folder, "tools/trust.c")), "TRUST": str(trusted),
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}


def tls(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


class Handler(http.server.BaseHTTPRequestHandler):
    """/NAME/ANSWER,ANSWER...: one after another, the last again and again.  An answer is a status, or a status and Retry-After: 503r7, where _ is a space and * a comma."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.mu:
            answers = self.path.split("/")[2].split(",")
            seen = sum(c.path == self.path for c in self.server.calls)
            self.server.calls.append(Call(self.path, dict(self.headers), body, time.monotonic()))
        answer = self.server.instead.get(self.path) or answers[min(seen, len(answers) - 1)]
        self.close_connection = True
        if answer == "wait":
            self.server.release.wait(20)
            answer = "200"
        try:
            getattr(self, answer, lambda: self.plain(answer))()
        except OSError:
            pass

    def plain(self, answer):
        status, _, wait = answer.partition("r")
        self.send_response(int(status))
        if wait:
            self.send_header("Retry-After", wait.replace("_", " ").replace("*", ","))
        text = b"said \xff\x1b[31m<script>" + b"x" * 5000
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def redirect(self):
        self.send_response(307)
        self.send_header("Location", f"https://localhost:{self.server.server_port}/elsewhere/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def file(self):
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def trickle(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.release.wait(0.5):
            self.wfile.write(b"x")

    def endless(self):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while True:
            self.server.sent += self.wfile.write(b"x" * 65536)

    def head(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.server.sent += self.wfile.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    def gzip(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"\x1f\x8b\x00\x00")


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder, address="127.0.0.1", port=0):
        super().__init__((address, port), Handler)
        self.context = tls(folder)
        self.calls, self.instead, self.mu, self.release, self.sent = [], {}, threading.Lock(), threading.Event(), 0
        self.url = f"https://localhost:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def get_request(self):
        return self.socket.accept()

    def process_request_thread(self, request, address):
        """The handshake is the thread's: a caller that is slow with it holds nobody up."""
        try:
            request.settimeout(20)
            request = self.context.wrap_socket(request, server_side=True)
        except OSError:
            request.close()
            return
        super().process_request_thread(request, address)

    def handle_error(self, request, address):
        pass

    def got(self, path, n=1, seconds=20):
        """The calls of a path, once there are n."""
        return until(lambda: len(calls := [c for c in self.calls if c.path == path]) >= n and calls, seconds, f"{n} calls of {path}")

    def end(self):
        self.release.set()
        self.shutdown()
        self.server_close()


class Mute:
    """Takes connections and counts them; says nothing, or hangs up."""

    def __init__(self, hang_up=False, address="127.0.0.1", port=0):
        self.socket = socket.create_server((address, port))
        self.port, self.connections, self.hang_up = self.socket.getsockname()[1], [], hang_up
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(s)
            if self.hang_up:
                s.recv(100)
                s.close()

    def end(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        for s in self.connections:
            s.close()
