"""repquantctl and what it asks: whom it trusts, how long it waits, what it makes of answers that are none, and what it repeats."""
import contextlib
import http.server
import socket
import threading
import time

import pytest
import requests
from desk import Desk, desk, liar  # noqa: F401  (fixtures)
from receiver import certificate, system_trusts, tls
from support import Listener, digest_of

JOBS = {"GET /v1/jobs": [(200, {}, {"data": []})]}


# ---- whom it trusts ----

@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two authorities, each of its own folder."""
    made = [tmp_path_factory.mktemp("tls") for _ in range(2)]
    for folder in made:
        certificate(folder)
    return made


def test_an_authority_of_ones_own_is_trusted_instead_of_the_systems(desk, liar, folders, tmp_path):
    ours, theirs = folders
    system = system_trusts(tmp_path, theirs / "cert")
    desk.url = liar(JOBS, tls(theirs)).url
    desk.run("status", **system)                    # the system's are what is trusted without the option
    text = desk.run("status", "--ca", ours / "cert", status=3, **system)
    assert "[client.network]" in text and "certificate" in text
    desk.url = liar(JOBS, tls(ours)).url
    desk.run("status", "--ca", ours / "cert", **system)


# ---- what it makes of answers ----

def submission(desk):
    """The words of a submit whose model is there already, and the answer that says so."""
    digest = digest_of((desk.folder / desk.write("m.onnx", "M")).read_bytes())
    return ["submit", "m.onnx", "--recipe", "minmax-w8a8"], {"GET /v1/models": [(200, {}, {"data": [{"id": "mdl_1", "name": "m.onnx", "digest": digest}]})]}


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", {"id": 7}, {"id": "job_../../x"}, {"id": "mdl_01"}, {"state": "queued"}])
@pytest.mark.parametrize("wait", [(), ("--wait",)])
def test_what_tells_no_job_is_no_success(desk, liar, body, wait):
    words, answers = submission(desk)
    desk.url = liar({**answers, "POST /v1/jobs": [(202, {}, body)]}).url
    assert desk.json(*words, *wait, status=3)["code"] == "client.answer"


# ---- what it repeats ----

class Gateway(http.server.BaseHTTPRequestHandler):
    """A proxy that hands requests on; of those that begin with `lost` the first answer is lost, and 502 or 504 said."""

    protocol_version = "HTTP/1.1"

    def hand_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = requests.request(self.command, self.server.target + self.path, data=body, headers=dict(self.headers), timeout=30)
        status, data = answer.status_code, answer.content
        if self.server.lost and f"{self.command} {self.path}".startswith(self.server.lost):
            self.server.lost, status, data = None, self.server.status, b"<html>Gateway</html>"
        self.send_response(status)
        for name, value in answer.headers.items():
            if name not in ("Content-Length", "Connection", "Transfer-Encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = hand_on

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status", [502, 504])
@pytest.mark.parametrize("lost", ["POST /v1/jobs", "POST /v1/models", "POST /v1/datasets", "PUT /v1/blobs"])
def test_an_answer_that_a_proxy_loses_makes_nothing_twice(make_daemon, tmp_path, lost, status):
    d = make_daemon()
    gateway = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    gateway.target, gateway.lost, gateway.status = d.url, lost, status
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    desk = Desk(tmp_path, f"http://127.0.0.1:{gateway.server_port}", d.token)
    job = desk.run(*desk.submission()).strip()
    assert gateway.lost is None
    assert [j["id"] for j in d("GET", "/v1/jobs").json()["data"]] == [job]
    assert len(d("GET", "/v1/models").json()["data"]) == 1 and len(d("GET", "/v1/datasets").json()["data"]) == 1
    gateway.shutdown()
    gateway.server_close()


class Slammer(Listener):
    """TLS whose handshakes break off, the first few times."""

    def __init__(self, target, times):
        self.target, self.left = target, times
        super().__init__()

    def carry(self, client):
        if self.left > 0:
            self.left -= 1
            client.recv(1)
            client.close()
            return
        server = socket.create_connection(("localhost", self.target))
        threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
        self.pump(server, client)

    @staticmethod
    def pump(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                sink.sendall(data)
        sink.close()


def test_a_handshake_that_breaks_off_is_tried_again_and_a_certificate_is_not(desk, liar, folders):
    ours, theirs = folders
    behind = liar(JOBS, tls(ours))
    slammer = Slammer(behind.server_port, 2)
    desk.url = f"https://localhost:{slammer.port}"
    p = desk.start("status", "--ca", ours / "cert")
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and err.count("trying again") == 2, out + err
    slammer.left = 0
    p = desk.start("status", "--ca", theirs / "cert")
    out, err = p.communicate(timeout=60)
    assert p.returncode == 3 and "trying again" not in err
    slammer.close()


# ---- how long it waits ----

@pytest.mark.parametrize("hangs", ["GET /v1/jobs/job_01/events", "GET /v1/jobs/job_01"])
@pytest.mark.parametrize("command", ["wait", "events"])
def test_a_service_that_hangs_does_not_stretch_the_time(desk, liar, hangs, command):
    """Neither while the job runs nor when its end has been told."""
    ended = {"data": [{"seq": 1, "type": "job.succeeded", "data": {"state": "succeeded"}}]}
    server = liar({"GET /v1/jobs/job_01/events": [(200, {}, ended if command == "wait" and "events" not in hangs else {"data": []})],
                   "GET /v1/jobs/job_01": [(200, {}, {"id": "job_01", "state": "running"})]})
    server.hangs = hangs
    desk.url = server.url
    begun = time.monotonic()
    words = [command, "job_01", "--timeout", "2"] + (["--follow"] if command == "events" else [])
    assert desk.json(*words, status=3)["code"] == "client.timeout"
    assert 1.9 < time.monotonic() - begun < 25
    server.release.set()


def test_a_service_that_is_gone_does_not_stretch_it_either(desk):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    desk.url = f"http://127.0.0.1:{port}"
    begun = time.monotonic()
    assert "[client.timeout]" in desk.run("wait", "job_01", "--timeout", "2", status=3)
    assert 1.9 < time.monotonic() - begun < 25
