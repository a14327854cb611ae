#!/usr/bin/env python3
"""Writes lines into a folder, as seeds for fuzz_request: a value of each kind that it parses, and fields of a head."""
import base64
import pathlib
import sys

TOKEN = "rq_" + "0aZ" * 14 + "9"
JOB = "job_01JD8Z6W3V7QK5T9N2M4X8C0RB"
FIELDS = ["Host: a:8080", "Content-Length: 12", "Content-Type: application/json; charset=utf-8", f"Authorization: Bearer {TOKEN}", "Range: bytes=0-",
          "Idempotency-Key: 7", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Upload-Metadata: filename bQ==,type",
          "Upload-Checksum: sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "X_Forwarded_For: 1.1.1.1", f"Cookie: a=b; __Host-repquant=rs_{TOKEN[3:]}; c=d",
          "Transfer-Encoding: chunked"]
SEEDS = {
    "usual": ["/v1/jobs/job_1/layers?sort=name&order=desc", "bytes=5-9", 'W/"a", "b"', "sha256:" + "0a" * 32, base64.b64encode(b"hello").decode(),
              "127.0.0.1, 10.0.0.0/8, fd00::/8", "192.0.2.1, 10.0.0.2", TOKEN, *FIELDS],
    "page": [f"/v1/jobs?cursor={JOB}&limit=200&order=asc", "bytes=0-0", '""', "", "", "", "", TOKEN[:-1]],
    **{f"cookie-{n}": [""] * 8 + ["Cookie: __Host-repquant=" + "a" * n] for n in (0, 46, 47, 48, 49)},
    "odd": ["/v1/%C3%A9/%2F?a&=b&c=%20+&cursor=mdl_1", "bytes=-1", "*", "sha256:" + "0A" * 32, "====", "10.0.0.0/33", "[::1]:80, unknown",
            TOKEN + "-", "Cookie: x__Host-repquant=1; __Host-repquant=;;__Host-repquant=2"],
    "several": ["/../%2e/x%00", "bytes=1-2,4-5", '"', "", "QQ==", "::ffff:10.0.0.1", ",,::1,", "rq_", *FIELDS[:3], *FIELDS[:3]],
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, lines in SEEDS.items():
    (folder / name).write_text("\n".join(lines))
