"""What the tests of repquantctl share: a person's desk, a network that breaks and a service that lies."""
import contextlib
import http.server
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest
from conftest import ROOT
from support import Listener, digest_of

CTL = os.environ.get("REPQUANTCTL", str(ROOT / "build" / "repquantctl"))
NPZ = '#inspect result result.json {"format":"npz","samples":4}\n'
RUN = ("stage preparing; progress 0 2; stage quantizing; layer 2; warning model.odd; progress 2 2; metric top1 0.75 0.5; "
       'result model.onnx MODEL; result report.json {"layers":[]}')


class Desk:
    """A person's files and settings, and the command run with them."""

    def __init__(self, folder, url, token):
        self.folder, self.url, self.token = folder, url, token
        (folder / "home").mkdir()

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("REPQUANT", "XDG_", "http", "HTTP", "no_proxy"))}
        env.update(HOME=str(self.folder / "home"), REPQUANT_URL=self.url, **more)
        if self.token:
            env["REPQUANT_TOKEN"] = self.token
        return env

    def start(self, *words, **more):
        return subprocess.Popen([CTL, *map(str, words)], cwd=self.folder, env=self.environment(**more), text=True, errors="surrogateescape",
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *words, status=0, stdin=None, **more):
        p = self.start(*words, **more)
        out, err = p.communicate(stdin, timeout=60)
        assert p.returncode == status, f"{words}: {p.returncode}\n{out}\n{err}"
        return out if status == 0 else out + err

    def json(self, *words, status=0, **more):
        p = self.start(*words, "--json", **more)
        out, err = p.communicate(timeout=60)
        assert p.returncode == status, f"{words}: {p.returncode}\n{out}\n{err}"
        assert err == ""
        return json.loads(out)      # one document, and nothing else

    def write(self, name, text):
        data = text.encode() if isinstance(text, str) else text
        (self.folder / name).write_bytes(data)
        return name

    def submission(self, script=RUN, **files):
        """The words of a submit; each call with another name makes other bytes."""
        name = files.get("name", "model.onnx")
        return ["submit", self.write(name, f"#quantize {script}\n# {os.urandom(8).hex()}\n"), "--calibration", self.write("calib.npz", NPZ),
                "--recipe", "minmax-w8a8"]


@pytest.fixture
def desk(tmp_path, daemon):
    return Desk(tmp_path, daemon.url, daemon.token)


class Proxy(Listener):
    """Carries connections to a port.  cuts: (what a request begins with, "up" or "down", bytes after which it is cut), each once; slow: seconds a piece."""

    def __init__(self, port, cuts=()):
        self.target, self.cuts, self.heads, self.slow = port, list(cuts), [], 0
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def carry(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        state = {"cut": None, "up": 0, "down": 0}
        threading.Thread(target=self.pump, args=(server, client, "down", state), daemon=True).start()
        self.pump(client, server, "up", state)

    def pump(self, source, sink, way, state):
        while True:
            try:
                data = source.recv(16384)
            except OSError:
                data = b""
            if way == "up" and re.match(rb"[A-Z]+ /", data):
                self.heads.append(data.split(b"\r\n\r\n")[0].decode())
                state.update(up=0, down=0, cut=next((c for c in self.cuts if data.startswith(c[0].encode())), None))
                if state["cut"]:
                    self.cuts.remove(state["cut"])
            cut = state["cut"]
            if not data or (cut and cut[1] == way and state[way] + len(data) > cut[2]):
                if data and cut[2] > state[way]:
                    sink.sendall(data[:cut[2] - state[way]])
                for s in (source, sink):
                    self.cut_off(s)
                return
            state[way] += len(data)
            time.sleep(self.slow)
            try:
                sink.sendall(data)
            except OSError:
                return

    @staticmethod
    def cut_off(s):
        """Closed, so that more bytes are answered with a reset; what is only shut down takes them in and is silent."""
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()

    def asked(self, start):
        return [h for h in self.heads if h.startswith(start)]


@pytest.fixture
def proxy():
    proxies = []

    def make(port, cuts=()):
        proxies.append(Proxy(port, cuts))
        return proxies[-1]

    yield make
    for p in proxies:
        p.listener.close()


class Liar(http.server.BaseHTTPRequestHandler):
    """A service that answers what the test says: {"METHOD /path": [(status, fields, body), ...]}; the last answer is repeated.  `hangs`: what it
    is silent to until `release`."""

    def answer(self):
        if self.server.hangs == f"{self.command} {self.path.split('?')[0]}":
            self.server.release.wait(30)
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        answers = self.server.answers.get(f"{self.command} {self.path.split('?')[0]}", [(404, {}, {"code": "resource.not_found"})])
        status, fields, body = answers.pop(0) if len(answers) > 1 else answers[0]
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name, value)
        with contextlib.suppress(OSError):          # who was kept waiting has gone
            self.end_headers()
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = do_PATCH = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def liar():
    servers = []

    def make(answers, tls=None):
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
        s.answers, s.seen, s.hangs, s.release = answers, [], None, threading.Event()
        s.url = f"https://localhost:{s.server_port}" if tls else f"http://127.0.0.1:{s.server_port}"
        if tls:
            s.socket = tls.wrap_socket(s.socket, server_side=True)
        threading.Thread(target=s.serve_forever, daemon=True).start()
        servers.append(s)
        return s

    yield make
    for s in servers:
        s.shutdown()
        s.server_close()


def artifacts(rows):
    return {"GET /v1/jobs/job_01": [(200, {}, {"id": "job_01", "state": "succeeded"})], "GET /v1/jobs/job_01/artifacts": [(200, {}, {"data": rows})]}


def artifact(data, **more):
    return {"name": "model.onnx", "digest": digest_of(data), "bytes": len(data), "urls": {"content": "/v1/artifacts/art_1/content"}, **more}
