#!/usr/bin/env python3
"""Uploads against what the machine can do: the disk with fsync, and SHA-256, measured beside; and eight of 1 GiB at once.

    .venv/bin/python bench/uploads.py [--size MIB] [--rounds N] [--folder DIR] [--eight|--single]

The daemon is build/repquantd with its data in DIR (default build/bench-uploads; on the disk that is to be judged). In each round, in this order:
dd of the same bytes with conv=fsync, SHA-256 by OpenSSL (Python's hashlib) and by Nettle (the daemon's, through `nettle-hash`) where it is installed,
the client alone (sendfile to a process that only reads), one PUT and one tus upload in a single PATCH by the same client. The ratios are to the lesser
of disk and SHA-256 of the same round; the last line has the medians of the columns, so also of the ratios. cpu is the daemon's processor time for the PUT.
--eight uploads 8 x 1 GiB at once and reports the daemon's peak resident memory. All of it takes about two minutes where nothing else runs.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20


class Daemon:
    def __init__(self, folder):
        port_file = folder / "port"
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen([ROOT / "build/repquantd", "--port=0", f"--port-file={port_file}", f"--data={folder / 'data'}", "--auth=off",
                                         "--max-upload=16G", "--log-level=warn"], stdout=self.log, stderr=self.log)
        while not port_file.exists():
            assert self.process.poll() is None, "the daemon did not start"
            time.sleep(0.01)
        self.port = int(port_file.read_text())

    def peak_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmHWM")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0


def exchange(port, head, source=None):
    """One request over a connection of its own; the body by sendfile.  Status and header fields."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(("\r\n".join([*head, "Host: localhost", "Connection: close", "", ""])).encode())
        if source:
            with open(source, "rb") as f:
                s.sendfile(f)
        data = b""
        while part := s.recv(65536):
            data += part
    lines = data.split(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:])


def put(port, source, size, digest):
    return exchange(port, [f"PUT /v1/blobs/{digest} HTTP/1.1", f"Content-Length: {size}"], source)[0]


def tus(port, source, size, digest):
    status, fields = exchange(port, ["POST /v1/uploads HTTP/1.1", "Tus-Resumable: 1.0.0", f"Upload-Length: {size}", "Content-Length: 0"])
    assert status == 201
    status, fields = exchange(port, [f"PATCH {fields['Location']} HTTP/1.1", "Tus-Resumable: 1.0.0", "Upload-Offset: 0",
                                     "Content-Type: application/offset+octet-stream", f"Content-Length: {size}"], source)
    assert fields["Blob-Digest"] == digest
    return status


SINK = """
import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c, room = s.accept()[0], bytearray(1 << 20)
while c.recv_into(room):
    pass
c.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
"""


def sink(source):
    """How long the client takes when nothing is done with its bytes."""
    with subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True) as reader:
        port = int(reader.stdout.readline())
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as s, open(source, "rb") as f:
            s.sendfile(f)
            s.shutdown(socket.SHUT_WR)
            s.recv(100)
            return time.perf_counter() - start


def clocked(what, *arguments):
    start = time.perf_counter()
    result = what(*arguments)
    return time.perf_counter() - start, result


def dd(source, target):
    subprocess.run(["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none"], check=True)
    os.unlink(target)


def sha256(source):
    h = hashlib.sha256()
    with open(source, "rb") as f:
        while piece := f.read(MIB):
            h.update(piece)
    return "sha256:" + h.hexdigest()


def make(path, size, seed):
    with open(path, "wb") as f:
        block = hashlib.shake_256(seed.to_bytes(8, "big")).digest(MIB)
        for i in range(size // MIB):
            f.write(i.to_bytes(8, "big") + block[8:])


def one_round(daemon, folder, size, seed, nettle):
    """Seconds by column."""
    source, t = folder / "source", {}
    make(source, size, seed)
    digest = sha256(source)                         # and the source is in memory for all that follows
    subprocess.run(["sync"], check=True)
    t["disk"], _ = clocked(dd, source, folder / "dd")
    t["sha256"], _ = clocked(sha256, source)
    if nettle:
        t["nettle"], _ = clocked(lambda: subprocess.run([nettle, "-a", "sha256"], stdin=open(source, "rb"), check=True, stdout=subprocess.DEVNULL))
    t["client"] = sink(source)
    before = daemon.cpu()
    t["put"], status = clocked(put, daemon.port, source, size, digest)
    t["cpu"] = daemon.cpu() - before
    assert status == 201, status
    with open(source, "r+b") as f:                  # other bytes, so that nothing is known
        f.write(b"tus")
    digest = sha256(source)
    t["tus"], status = clocked(tus, daemon.port, source, size, digest)
    assert status == 204
    source.unlink()
    return t


def speeds(daemon, folder, size, rounds):
    nettle = shutil.which("nettle-hash")
    names = ["disk", "sha256", *(["nettle"] if nettle else []), "client", "put", "tus"]
    rows = []
    print(f"{size // MIB} MiB, {rounds} rounds, {os.cpu_count()} processors; MiB/s\n{'round':>6}" + "".join(f"{n:>9}" for n in names)
          + "  put/min  tus/min    cpu s")

    def show(name, row):
        print(f"{name:>6}" + "".join(f"{v:>9.0f}" for v in row[:-3]) + f"{row[-3]:>9.2f}{row[-2]:>9.2f}{row[-1]:>9.2f}", flush=True)

    for r in range(rounds):
        t = one_round(daemon, folder, size, r, nettle)
        rate = {n: size / MIB / t[n] for n in names}
        base = min(rate["disk"], rate["sha256"])
        rows.append([*rate.values(), rate["put"] / base, rate["tus"] / base, t["cpu"]])
        show(r, rows[-1])
    show("median", [statistics.median(column) for column in zip(*rows)])


def eight(daemon, folder, size=1 << 30, n=8):
    sources = [folder / f"source-{i}" for i in range(n)]
    for i, source in enumerate(sources):
        make(source, size, 1000 + i)
    digests = [sha256(s) for s in sources]
    before, statuses = daemon.peak_mib(), []
    threads = [threading.Thread(target=lambda i=i: statuses.append((put if i % 2 else tus)(daemon.port, sources[i], size, digests[i]))) for i in range(n)]
    start = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - start
    for s in sources:
        s.unlink()
    peak = daemon.peak_mib()
    assert sorted(statuses) == [201] * (n // 2) + [204] * (n - n // 2), statuses
    print(f"{n} uploads of {size // MIB} MiB at once (half PUT, half tus): {n * size / MIB / seconds:.0f} MiB/s in all; "
          f"peak resident memory of the daemon {peak:.1f} MiB (before: {before:.1f})")
    return peak


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", type=int, default=256, help="MiB of one upload")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench-uploads")
    p.add_argument("--eight", action="store_true", help="only the eight at once; fails at 64 MiB of memory")
    p.add_argument("--single", action="store_true", help="not the eight")
    a = p.parse_args()
    shutil.rmtree(a.folder, ignore_errors=True)
    a.folder.mkdir(parents=True)
    daemon = Daemon(a.folder)
    try:
        if not a.eight:
            speeds(daemon, a.folder, a.size * MIB, a.rounds)
        peak = 0 if a.single else eight(daemon, a.folder)
    finally:
        daemon.stop()
        shutil.rmtree(a.folder, ignore_errors=True)
    if peak >= 64:
        sys.exit("over 64 MiB")


if __name__ == "__main__":
    main()
