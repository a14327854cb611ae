#!/usr/bin/env python3
"""Writes lines into a folder, as seeds for fuzz_request: a value of each kind that it parses, and fields of a head."""
import base64
import pathlib
import sys

FIELDS = ["Host: a:8080", "Content-Length: 12", "Content-Type: application/json; charset=utf-8", "Authorization: Bearer rq_0123456789abcdef", "Range: bytes=0-",
          "Idempotency-Key: 7", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Upload-Metadata: filename bQ==,type",
          "Upload-Checksum: sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "X_Forwarded_For: 1.1.1.1", "Cookie: a=b; __Host-rq=c", "Transfer-Encoding: chunked"]
SEEDS = {
    "usual": ["/v1/jobs/job_1/layers?sort=name&order=desc", "bytes=5-9", 'W/"a", "b"', "sha256:" + "0a" * 32, base64.b64encode(b"hello").decode(),
              "127.0.0.1, 10.0.0.0/8, fd00::/8", "192.0.2.1, 10.0.0.2", *FIELDS],
    "odd": ["/v1/%C3%A9/%2F?a&=b&c=%20+", "bytes=-1", "*", "sha256:" + "0A" * 32, "====", "10.0.0.0/33", "[::1]:80, unknown"],
    "several": ["/../%2e/x%00", "bytes=1-2,4-5", '"', "", "QQ==", "::ffff:10.0.0.1", ",,::1,", *FIELDS[:3], *FIELDS[:3]],
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, lines in SEEDS.items():
    (folder / name).write_text("\n".join(lines))
