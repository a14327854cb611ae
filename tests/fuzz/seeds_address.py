#!/usr/bin/env python3
"""Writes networks, URLs and addresses into a folder, as seeds for fuzz_address."""
import ipaddress
import pathlib
import sys

NETS = ["10.1.0.0/16,fd00::/8", "127.0.0.1", "::/0,0.0.0.0/0", "1.2.3.4/33,", ""]
URLS = ["https://models.example/a.onnx", "https://user:secret@models.example/", "http://models.example/", "https://[::1]:8443/x", "https://0x7f.1/",
        "https://x.s3.example:443/?a#b", "https://other.example:8443/", "https://127.0.0.1%20/", "https://models.example\\@a/"]
ADDRESSES = ["::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2606:4700::1111", "fe80::1", "2001:db8::1", "::ffff:8.8.8.8", "3fff::1"]

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for i, address in enumerate(ADDRESSES):
    lines = f"{NETS[i % len(NETS)]}\n{URLS[i % len(URLS)]}\n".encode()
    (folder / str(i)).write_bytes(lines + ipaddress.ip_address(address).packed)
