"""Imports by URL, against a TLS server of our own that serves, redirects, lies and stalls."""
import hashlib
import http.server
import os
import socket
import ssl
import subprocess
import threading

import pytest
from conftest import until

DATA = os.urandom(2_000_000)
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, data=b"", length=None, **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            pass
        self.close_connection = True

    def do_GET(self):
        self.server.asked.append(self.path)
        what = self.path.split("?")[0].strip("/").split("/")
        port = self.server.server_port
        if what[0] == "good":
            self.send(200, DATA, len(DATA))
        elif what[0] == "unsized":
            self.send(200, b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA), Transfer_Encoding="chunked")
        elif what[0] == "unended":          # without TLS's own goodbye this may be a cut
            self.send(200, DATA, Connection="close")
        elif what[0] == "short":
            self.send(200, DATA[:1000], len(DATA))
        elif what[0] == "huge":
            self.send(200, b"x", 1 << 40)
        elif what[0] == "endless":
            self.send(200, Connection="close")
            while self.write_on():
                pass
        elif what[0] == "gzip":
            self.send(200, b"\x1f\x8b", 2, Content_Encoding="gzip")
        elif what[0] == "talk":             # all of it, behind a head of 100 kB
            self.send(200, DATA, len(DATA), **{f"X_{i}": "x" * 1000 for i in range(100)})
        elif what[0] == "hop":
            left = int(what[1])
            self.send(302, b"", 0, Location=f"https://localhost:{port}/hop/{left - 1}" if left else f"https://localhost:{port}/good")
        elif what[0] == "away":
            self.send(302, b"", 0, Location={"host": "https://127.0.0.1:1/", "plain": f"http://localhost:{port}/good", "file": "file:///etc/passwd"}[what[1]])
        elif what[0] == "stall":
            self.server.release.wait(30)
            self.send(200, b"late", 4)
        else:
            self.send(403, b"no", 2)

    def write_on(self):
        try:
            self.wfile.write(b"x" * 65536)
            return True
        except OSError:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    s.socket = context.wrap_socket(s.socket, server_side=True)
    s.asked, s.release, s.cert, s.daemon_threads = [], threading.Event(), folder / "cert", True
    threading.Thread(target=s.serve_forever, daemon=True).start()
    s.url = f"https://localhost:{s.server_port}"
    yield s
    s.release.set()
    s.shutdown()


@pytest.fixture(scope="module")
def importer(server, tmp_path_factory, fake_job):
    from conftest import Daemon
    d = Daemon(tmp_path_factory.mktemp("importer"), fake_job, {
        "import-hosts": f"localhost:{server.server_port}", "outbound-private": "127.0.0.1/32,::1", "outbound-ca": str(server.cert), "max-upload": "16M"}).start()
    yield d
    assert d.stop() == 0
    assert not d.leftovers()


def imported(daemon, url, **more):
    answer = daemon("POST", "/v1/imports", json={"url": url, **more})
    assert answer.status_code == 202, answer.text
    path = answer.headers["Location"]
    return until(lambda: (row := daemon("GET", path).json()) and (row["digest"] or row["problem"]) and row, 20, "the import's end")


@pytest.mark.parametrize("shift", range(2))
def test_a_long_source_is_cut_between_characters(importer, server, shift):
    url = f"{server.url}/" + "a" * shift + "ж" * 200
    row = imported(importer, url)
    assert row["problem"] and url.startswith(row["source"]) and 250 <= len(row["source"].encode()) <= 255, row


@pytest.mark.parametrize("path", ["good", "unsized", "hop/2", "good?X-Amz-Signature=unspoken"])
def test_a_file_of_a_listed_host_becomes_a_blob(importer, server, path):
    row = imported(importer, f"{server.url}/{path}", **({"digest": DIGEST} if path == "good" else {}))
    assert row["digest"] == DIGEST and row["offset"] == row["length"] == len(DATA)
    assert importer("GET", f"/v1/blobs/{DIGEST}").content == DATA
    assert "unspoken" not in row["source"]
    assert "unspoken" not in importer.log.read_text()
    assert b"unspoken" not in b"".join(p.read_bytes() for p in importer.data.glob("repquant.db*"))


@pytest.mark.parametrize("path, code", [
    ("short", "target.failed"), ("unended", "target.failed"), ("huge", "request.too_large"), ("endless", "target.failed"), ("gzip", "target.failed"), ("nothing", "target.failed"),
    ("talk", "target.failed"), ("hop/9", "target.failed"), ("away/host", "target.forbidden"), ("away/plain", "target.forbidden"), ("away/file", "target.forbidden"),
])
def test_what_another_server_gets_wrong_is_told_and_leaves_nothing(importer, server, path, code):
    row = imported(importer, f"{server.url}/{path}")
    assert row["digest"] is None and row["problem"]["code"] == code
    assert not list((importer.data / "blobs").glob("upl_*"))


def test_other_bytes_than_announced_are_refused(importer, server):
    row = imported(importer, f"{server.url}/unsized", digest="sha256:" + "0" * 64)
    assert row["problem"]["code"] == "upload.digest_mismatch"


def test_a_known_digest_is_not_fetched_again(importer, server):
    imported(importer, f"{server.url}/good")
    before = len(server.asked)
    assert imported(importer, f"{server.url}/good?again", digest=DIGEST)["digest"] == DIGEST
    assert len(server.asked) == before


@pytest.mark.parametrize("url", ["http://localhost/x", "https://example.com/x", "https://u:p@localhost/x", "file:///etc/passwd", "https://[::1]/x", "https://127.1/x"])
def test_a_url_that_may_not_be_asked_is_refused_at_once(importer, url):
    answer = importer("POST", "/v1/imports", json={"url": url})
    assert answer.status_code == 422 and answer.json()["code"] == "target.forbidden"


def test_an_import_can_be_watched_and_ended(importer, server):
    answer = importer("POST", "/v1/imports", json={"url": f"{server.url}/stall"})
    path = answer.headers["Location"]
    until(lambda: any(p == "/stall" for p in server.asked), what="the request")
    row = importer("GET", path).json()
    assert row["digest"] is None and row["problem"] is None and row["length"] is None
    assert importer("DELETE", path, headers={"Tus-Resumable": "1.0.0"}).status_code == 204
    assert importer("GET", path).status_code == 404


def test_a_name_that_leads_to_a_private_address_is_not_connected_to(make_daemon):
    """The list knows the name; the rule looks at the address.  Nothing must arrive at a listener there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        daemon = make_daemon(import_hosts=f"localhost:{port},127.0.0.1:{port}")
        assert imported(daemon, f"https://localhost:{port}/x")["problem"]["code"] == "target.forbidden"
        assert daemon("POST", "/v1/imports", json={"url": f"https://127.0.0.1:{port}/x"}).json()["code"] == "target.forbidden"      # told at once
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_certificate_nobody_vouches_for_is_refused(make_daemon, server):
    daemon = make_daemon(import_hosts=f"localhost:{server.server_port}", outbound_private="127.0.0.0/8,::1")
    row = imported(daemon, f"{server.url}/good")
    assert row["problem"]["code"] == "target.failed"


def test_imports_are_off_by_default_and_end_with_the_daemon(make_daemon, server):
    daemon = make_daemon()
    answer = daemon("POST", "/v1/imports", json={"url": "https://example.com/x"})
    assert answer.status_code == 422 and "--import-hosts" in answer.json()["detail"]
    daemon = make_daemon(import_hosts=f"localhost:{server.server_port}", outbound_private="127.0.0.0/8,::1", outbound_ca=str(server.cert))
    path = daemon("POST", "/v1/imports", json={"url": f"{server.url}/stall?2"}).headers["Location"]
    until(lambda: "/stall?2" in server.asked, what="the request")
    assert daemon.stop() == 0
    daemon.start()
    assert daemon("GET", path).json()["problem"]["code"] in ("service.draining", "worker.lost")
