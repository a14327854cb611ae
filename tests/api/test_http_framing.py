"""Malformed and hostile HTTP, byte by byte: every message gets one refusal, nothing behind it is executed."""
import json
import socket

import pytest
from conftest import until

pytestmark = pytest.mark.usefixtures("nothing_is_left")
HOST = b"Host: localhost\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def chunked(head):
    return b"POST /healthz HTTP/1.1\r\n" + HOST + head + b"\r\n0\r\n\r\n" + SECOND


AMBIGUOUS = {
    "length and coding": chunked(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    "coding and length": chunked(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    "chunkedx": chunked(b"Transfer-Encoding: chunkedx\r\n"),
    "gzip, chunked": chunked(b"Transfer-Encoding: gzip, chunked\r\n"),
    "identity": chunked(b"Transfer-Encoding: identity\r\n"),
    "two codings": chunked(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    "space before the colon": chunked(b"Transfer-Encoding : chunked\r\n"),
    "equal lengths": chunked(b"Content-Length: 5\r\nContent-Length: 5\r\n"),
    "unequal lengths": chunked(b"Content-Length: 5\r\nContent-Length: 6\r\n"),
    "signed length": chunked(b"Content-Length: +5\r\n"),
    "negative length": chunked(b"Content-Length: -5\r\n"),
    "hexadecimal length": chunked(b"Content-Length: 0x5\r\n"),
    "length of 2^64": chunked(b"Content-Length: 18446744073709551616\r\n"),
    "list of lengths": chunked(b"Content-Length: 5, 5\r\n"),
    "bare line feed behind the request line": b"GET /healthz HTTP/1.1\n" + HOST + b"\r\n" + SECOND,
    "bare line feed behind a field": b"GET /healthz HTTP/1.1\r\nX: a\n" + HOST + b"\r\n" + SECOND,
    "bare line feed behind the last field": b"GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n" + SECOND,
    "bare line feeds end the head": b"GET /healthz HTTP/1.1\r\nHost: localhost\n\n" + SECOND,
    "bare line feed for the empty line": b"GET /healthz HTTP/1.1\r\n" + HOST + b"\n" + SECOND,
    "line feeds alone": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "a field behind a carriage return": b"GET /healthz HTTP/1.1\r\nX: a\rY: b\r\n" + HOST + b"\r\n" + SECOND,
    "NUL in a value": b"GET /healthz HTTP/1.1\r\nX: a\0b\r\n" + HOST + b"\r\n" + SECOND,
    "NUL in a name": b"GET /healthz HTTP/1.1\r\nX\0Y: b\r\n" + HOST + b"\r\n" + SECOND,
    "NUL before a colon": b"GET /healthz HTTP/1.1\r\nAuthorization\0: b\r\n" + HOST + b"\r\n" + SECOND,
    "a folded field": b"GET /healthz HTTP/1.1\r\nX: a\r\n b\r\n" + HOST + b"\r\n" + SECOND,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n" + SECOND,
    "two hosts": b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n" + SECOND,
    "carriage return in a value": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n" + SECOND,
    "no colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"garbage\r\n\r\n" + SECOND,
    "no version": b"GET /healthz\r\n\r\n",
    "absolute form": b"GET http://localhost/healthz HTTP/1.1\r\n" + HOST + b"\r\n" + SECOND,
    "a method of other bytes": b"\xff\xfe /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + SECOND,
    "a method that is no token": b"GE(T /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + SECOND,
    "authority form": b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n" + SECOND,
}


# The HTTP library refuses these itself, with a page: no code of ours.
LIBRARY = {"signed length", "negative length", "hexadecimal length", "length of 2^64", "list of lengths", "NUL in a name", "NUL before a colon", "no host",
           "no colon", "no version"}


def parts(answer):
    """The fields of an answer's head, by their names in small letters, and its body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])}, body


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_message_is_refused_and_nothing_behind_it_runs(daemon, name):
    answer = daemon.raw(AMBIGUOUS[name])        # returns only because the connection is closed
    fields, body = parts(answer)
    assert status(answer) == (413 if name == "length of 2^64" else 400), answer
    assert fields["connection"] == "close", answer
    if name in LIBRARY:                         # which sends the head of some pages twice
        assert body.endswith(b"</html>") and set(answer.split(b"\r\n\r\n")[:-1]) == {answer.split(b"\r\n\r\n")[0]}, answer
    else:
        problem = json.loads(body)              # one document, to the end: no second answer behind it
        assert problem["code"] == "request.framing" and problem["status"] == 400 and problem["where"], answer
        assert fields["content-type"] == "application/problem+json" and int(fields["content-length"]) == len(body)
    assert b" 404 " not in answer               # the second request's answer


PATHS = ["/%2e%2e/etc/passwd", "/..", "/v1/../healthz", "/v1/models/%2e%2e", "/v1/models/..%2f..", "/v1/models/a%2fb", "/healthz%00", "/%zz", "/%", "/%4",
         "/a\\b", "/v1/models/%5c", "/\x7f", "/%0d%0aX:y", "/healthz?a=%00", "/healthz#x", "/" + "a" * 8000]


@pytest.mark.parametrize("path", PATHS, ids=[p[:24] for p in PATHS])
def test_a_doubtful_path_is_refused(daemon, path):
    assert status(daemon.raw(b"GET " + path.encode("latin-1") + b" HTTP/1.1\r\n" + HOST + b"\r\n")) == 400


@pytest.mark.parametrize("path", ["//healthz", "/healthz/", "/./healthz", "/v1//models", "/v1/models;x=1", "/HEALTHZ", "/api/../../x"])
def test_no_other_spelling_leads_to_a_path(daemon, path):
    answer = daemon.raw(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert status(answer) in (400, 404)


@pytest.mark.parametrize("head, expected", [
    (b"X: " + b"a" * 100_000 + b"\r\n", 431),
    (b"".join(b"X%d: a\r\n" % i for i in range(3000)), 431),
    (b"X: " + b"a" * 9000 + b"\r\n", 431),
    (b"".join(b"X%d: a\r\n" % i for i in range(120)), 431),
    (b"X: " + b"a" * 8000 + b"\r\n", 200),
    (b"".join(b"X%d: a\r\n" % i for i in range(90)), 200),
    (b"".join(b"X%d: " % i + b"a" * 8000 + b"\r\n" for i in range(6)), 200),
    (b"".join(b"X%d: " % i + b"a" * 8000 + b"\r\n" for i in range(7)), 431),
    (b"".join(b"X%d: " % i + b"a" * 8000 + b"\r\n" for i in range(9)), 431),
])
def test_a_head_is_bounded(daemon, head, expected):
    answer = daemon.raw(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + head + b"\r\n")
    assert status(answer) == expected


@pytest.mark.parametrize("field", [b"X:a", b"X: a ", b"X:  a\t ", b"X:", b"X: ", b"X: a:b", b"Accept: a\r\nAccept: b"])
def test_white_space_around_a_value_means_nothing(daemon, field):
    request = b"GET /healthz HTTP/1.1\r\n" + field + b"\r\n" + HOST + field + b"\r\n\r\n"
    closing = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = daemon.raw(request * 3 + closing)
    assert answer.count(b"HTTP/1.1 200 ") == 4, answer


def test_an_address_has_only_so_many_connections(make_daemon):
    d = make_daemon(connections=20)
    held = [socket.create_connection(("127.0.0.1", d.port)) for _ in range(20)]
    for s in held:
        s.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200")
    refused = socket.create_connection(("127.0.0.1", d.port), timeout=5)        # less than a head may take
    assert refused.recv(100) == b""             # closed at once
    for s in held:
        s.close()
    until(lambda: d.session.get(d.url + "/healthz").status_code == 200 if can_connect(d) else False, what="a place for another connection")


def can_connect(d):
    return d.raw(b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_http_2_is_not_spoken(daemon):
    assert status(daemon.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == 505


@pytest.mark.parametrize("body", [b"zz\r\nx\r\n0\r\n\r\n", b"1\r\nxx\r\n0\r\n\r\n", b"-1\r\nx\r\n0\r\n\r\n"])
def test_a_bad_chunk_ends_the_connection_and_leaves_nothing(daemon, body):
    head = f"PUT /v1/models HTTP/1.1\r\nAuthorization: Bearer {daemon.token}\r\nTransfer-Encoding: chunked\r\n".encode() + HOST
    assert status(daemon.raw(head + b"\r\n" + body)) in (400, None)
    until(lambda: not daemon.leftovers(), what="the removal of the unfinished upload")


@pytest.mark.parametrize("chunks", [1_000_000, pytest.param(3_000_000, marks=pytest.mark.long)])
def test_one_byte_chunks_cost_no_memory(daemon, chunks):
    before = daemon.memory()
    head = f"PUT /v1/models?name=chunks HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer {daemon.token}\r\n".encode()
    answer = daemon.raw(head + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n", 60)
    assert status(answer) == 201 and json.loads(parts(answer)[1])["bytes"] == chunks
    assert daemon.memory() - before < 16 << 20


def test_whatever_happened_the_daemon_answers_at_once(daemon):
    answer = daemon("GET", "/healthz")
    assert answer.status_code == 200 and answer.elapsed.total_seconds() < 1
