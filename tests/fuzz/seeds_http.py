#!/usr/bin/env python3
"""Writes requests as they go over the wire into a folder, as seeds for fuzz_http: proper ones, and each way of framing that has to be refused."""
import pathlib
import sys

HOST = "Host: a\r\n"
SEEDS = {
    "get": f"GET /v1/jobs?limit=2 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n",
    "two": f"GET /healthz HTTP/1.1\r\n{HOST}\r\nGET /v1/recipes/repquant-w4a4 HTTP/1.1\r\n{HOST}\r\n",
    "old": "GET /healthz HTTP/1.0\r\n\r\n",
    "json": f'POST /v1/jobs HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nContent-Length: 19\r\n\r\n{{"type":"quantize"}}',
    "chunks": f"PUT /v1/models?name=m HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "extension": f"PUT /v1/datasets HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    "both": f"PUT /v1/models HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "lengths": f"PUT /v1/models HTTP/1.1\r\n{HOST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "bare": f"GET /healthz HTTP/1.1\n{HOST}\r\n\r\n",
    "folded": f"GET /healthz HTTP/1.1\r\n{HOST}Accept: a,\r\n b\r\n\r\n",
    "nul": f"GET /healthz HTTP/1.1\r\n{HOST}Accept: a\0b\r\n\r\n",
    "expect": f"PUT /v1/models HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "tus": f"POST /v1/uploads HTTP/1.1\r\n{HOST}Tus-Resumable: 1.0.0\r\nUpload-Length: 5\r\nUpload-Metadata: filename bQ==\r\nContent-Length: 0\r\n\r\n",
    "absolute": "GET http://a/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "escapes": f"GET /v1/%2e%2e/jobs/%zz?a=%00 HTTP/1.1\r\n{HOST}\r\n",
    "events": f"GET /v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/events?wait=1 HTTP/1.1\r\n{HOST}Accept: text/event-stream\r\nLast-Event-ID: 3\r\n\r\n",
    "page": f"GET /dashboard/app.js HTTP/1.1\r\n{HOST}Range: bytes=2-5\r\nIf-None-Match: *\r\n\r\n",
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, text in SEEDS.items():
    (folder / name).write_bytes(text.encode())
