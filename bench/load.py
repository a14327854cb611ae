#!/usr/bin/env python3
"""The daemon under load, beside nginx and SQLite on the same machine in the same run.

    .venv/bin/python bench/load.py [--rounds 3] [--seconds 6] [--dir FOLDER] [--sync-us N] [get] [download] [post] [events] [healthz]

Wants `scripts/setup operate` (nginx, wrk) and `make programs build/tools/fake_job`.  Without names all five run.  The folder (default build/bench-load)
must be on the disk that is meant: `post` is about durable commits.  Both servers write a log of every request.  Medians over the rounds; in a
round the peer's turn comes first and ours directly behind it.

  get       GET /v1/jobs/{id} with a token and nginx with a file of the same bytes, 64 connections: requests/s and processor time of the server per request
  download  GET of 256 MiB by curl: MB/s
  post      POST /v1/jobs by 32 clients against single FULL commits of rows of that size, in WAL mode; --sync-us makes the disk of both slower
  events    1,000 readers of server-sent events of 20 jobs, 100 events/s: from the event's time to its arrival, and resident memory per reader
  healthz   GET /healthz, 200 a second, while as many jobs compute as there are processors
"""
import argparse
import asyncio
import calendar
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
DIGITS = ROOT / "examples" / "digits"


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


class Daemon:
    def __init__(self, folder, program, environment=None, **options):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.log = open(folder / "log", "wb")
        more = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.process = subprocess.Popen([ROOT / "build/repquantd", "--port=0", f"--port-file={folder / 'port'}", f"--data={folder / 'data'}", "--rate=0",
                                         "--drain=1", f"--repquant={program}", *more], stdout=self.log, stderr=self.log, env=environment)
        while not (folder / "port").exists():
            assert self.process.poll() is None, (folder / "log").read_text()
            time.sleep(0.01)
        self.port = int((folder / "port").read_text())
        self.token = (folder / "data" / "token").read_text().strip()
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, **headers):
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        elif body:
            headers = {"Content-Type": "application/octet-stream", **headers}
        request = urllib.request.Request(self.url + path, body, {"Authorization": f"Bearer {self.token}", **headers}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def inputs(self, model=b"#quantize layer 1\n", data=b'#inspect result result.json {"format":"npz","samples":4}\n', recipe="minmax-w8a8"):
        ids = [json.loads(self.ask("PUT", f"/v1/{kind}?name=x", body))["id"] for kind, body in (("models", model), ("datasets", data))]
        return {"type": "quantize", "model_id": ids[0], "dataset_id": ids[1], "recipe": recipe}

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


class Nginx:
    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "www").mkdir(parents=True)
        for f in (folder, folder / "www"):
            f.chmod(0o755)
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        user = "user root;" if os.getuid() == 0 else ""
        (folder / "conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes auto; {user}\n"
            "events { worker_connections 4096; }\n"
            f"http {{ sendfile on; tcp_nopush on; keepalive_requests 100000000; access_log {folder}/access; default_type application/json;\n"
            f"  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {folder}/www; }} }}\n")
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([nginx, "-p", folder, "-c", folder / "conf"], stderr=subprocess.DEVNULL)
        while True:
            try:
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=5).connect()
                break
            except ConnectionRefusedError:
                assert self.process.poll() is None, (folder / "error").read_text()
                time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port}"

    def pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def wrk(url, seconds, connections, *more):
    """(requests, seconds) of a run in which every answer was a 2xx."""
    told = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *more, url], capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s|m)", told)
    return int(found[1]), float(found[2]) * {"s": 1, "m": 60, "ms": 0.001}[found[3]]


def loaded(url, pids, seconds, *more):
    """(requests/s, microseconds of processor time per request)"""
    before = cpu_seconds(pids)
    n, took = wrk(url, seconds, 64, *more)
    return n / took, (cpu_seconds(pids) - before) / n * 1e6


def medians(rows):
    return [statistics.median(column) for column in zip(*rows)]


def bench_get(options):
    d, n = Daemon(options.dir / "get", ROOT / "build/tools/fake_job"), Nginx(options.dir / "nginx")
    try:
        job = json.loads(d.ask("POST", "/v1/jobs", d.inputs()))["id"]
        while json.loads(d.ask("GET", f"/v1/jobs/{job}"))["state"] != "succeeded":
            time.sleep(0.05)
        body = d.ask("GET", f"/v1/jobs/{job}")
        (n.folder / "www" / "job").write_bytes(body)
        token, theirs, ours = ("-H", f"Authorization: Bearer {d.token}"), [], []
        for _ in range(options.rounds):
            theirs.append(loaded(n.url + "/job", n.pids(), options.seconds))
            ours.append(loaded(f"{d.url}/v1/jobs/{job}", [d.process.pid], options.seconds, *token))
        (rate_n, cpu_n), (rate, cpu) = medians(theirs), medians(ours)
        print(f"get: {len(body)} bytes; nginx {rate_n:.0f}/s, {cpu_n:.1f} us of processor each; ours {rate:.0f}/s, {cpu:.1f} us: "
              f"{rate / rate_n:.2f} x its requests/s (goal >= 0.5), {cpu / cpu_n:.2f} x its processor time (goal <= 2)")
    finally:
        d.stop()
        n.stop()


def curl_mb_s(url, *more):
    told = subprocess.run(["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", *more, url], capture_output=True, text=True, check=True).stdout
    size, seconds = told.split()
    return int(size) / float(seconds) / 1e6


def bench_download(options):
    d, n = Daemon(options.dir / "download", ROOT / "build/tools/fake_job"), Nginx(options.dir / "nginx")
    try:
        body = os.urandom(1 << 20) * 256
        digest = hashlib.sha256(body).hexdigest()
        d.ask("PUT", f"/v1/blobs/sha256:{digest}", body)
        (n.folder / "www" / "file").write_bytes(body)
        rows = []
        for _ in range(options.rounds * 3):
            rows.append((curl_mb_s(n.url + "/file"), curl_mb_s(f"{d.url}/v1/blobs/sha256:{digest}", "-H", f"Authorization: Bearer {d.token}")))
        theirs, ours = medians(rows[1:])        # the first one fills the page cache
        print(f"download: nginx {theirs:.0f} MB/s, ours {ours:.0f} MB/s: {ours / theirs:.2f} x (goal >= 0.9)")
    finally:
        d.stop()
        n.stop()


SINGLE_COMMITS = """
import sqlite3, sys, time
path, row, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
db = sqlite3.connect(path, isolation_level=None)
db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE jobs (id INTEGER PRIMARY KEY, row TEXT) STRICT")
n, begun = 0, time.monotonic()
while time.monotonic() - begun < seconds:
    db.execute("INSERT INTO jobs (row) VALUES (?)", (row,))
    n += 1
print(n / (time.monotonic() - begun))
"""


def single_commits(folder, row, seconds, environment):
    path = folder / "single.db"
    path.unlink(missing_ok=True)
    made = subprocess.run([sys.executable, "-c", SINGLE_COMMITS, path, row, str(seconds)], env=environment, capture_output=True, text=True, check=True)
    return float(made.stdout)


def synchronizing(options):
    """The environment in which fsync takes longer, for both sides alike."""
    if not options.sync_us:
        return os.environ.copy()
    shim = options.dir / "slow_sync.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-o", shim, ROOT / "tests/tools/slow_sync.c"], check=True)
    return {**os.environ, "LD_PRELOAD": str(shim), "SLOW_SYNC_US": str(options.sync_us)}


def post_round(options):
    """Each round has a daemon of its own: what all waiting jobs were promised would fill the disk."""
    environment = synchronizing(options)
    d = Daemon(options.dir / "post", ROOT / "build/repquant", environment, keep_free="0")       # the real one: what it foresees is kept for the next job
    try:
        wish = d.inputs((DIGITS / "model.onnx").read_bytes(), (DIGITS / "calib.npz").read_bytes(), "repquant-w8a8")
        body = json.dumps({**wish, "not_before": "2090-01-01T00:00:00Z"})      # it is stored, and does not run
        row = d.ask("POST", "/v1/jobs", json.loads(body)).decode()
        script = options.dir / "post.lua"
        script.write_text(f'wrk.method = "POST"\nwrk.body = [[{body}]]\nwrk.headers["Content-Type"] = "application/json"\n')
        single = single_commits(options.dir, row, options.seconds, environment)
        n, took = wrk(d.url + "/v1/jobs", min(options.seconds, 4), 32, "-s", str(script), "-H", f"Authorization: Bearer {d.token}")
        return single, n / took
    finally:
        d.stop()


def bench_post(options):
    single, ours = medians([post_round(options) for _ in range(options.rounds)])
    disk = f", {options.sync_us} us more for each fsync" if options.sync_us else ""
    print(f"post{disk}: single FULL commits {single:.0f}/s; POST /v1/jobs by 32 clients {ours:.0f}/s: {ours / single:.2f} x (goal >= 4)")


async def read_events(d, job, late, began):
    reader, writer = await asyncio.open_connection("127.0.0.1", d.port)
    writer.write(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {d.token}\r\nAccept: text/event-stream\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    began()
    try:
        while line := await reader.readline():
            if line.startswith(b"data: ") and b'"at":"' in line:
                now = time.time()
                late.append((now, line[line.index(b'"at":"') + 6:][:24]))
    finally:
        writer.close()


async def watch_jobs(d, jobs, count, seconds):
    late, open_now = [], [0]

    def began():
        open_now[0] += 1

    before = resident_kib(d.process.pid)
    tasks = [asyncio.create_task(read_events(d, jobs[i % len(jobs)], late, began)) for i in range(count)]
    while open_now[0] < count:
        await asyncio.sleep(0.05)
        for t in tasks:
            if t.done():
                t.result()
    await asyncio.sleep(1)
    start = time.time()
    await asyncio.sleep(seconds)
    per_reader = (resident_kib(d.process.pid) - before) / count
    for t in tasks:
        t.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return per_reader, [(now, at) for now, at in late if now > start]


def bench_events(options):
    readers, jobs = 1000, 20
    d = Daemon(options.dir / "events", ROOT / "build/tools/fake_job", workers=jobs, keep_free="0", silence_timeout=120, event_readers=4000)
    try:
        script = "sleep 4000;" + "sleep 200;layer 1;" * ((3900 - 12) // 18)
        wish = d.inputs(f"#quantize {script}\n".encode())
        ids = [json.loads(d.ask("POST", "/v1/jobs", wish))["id"] for _ in range(jobs)]
        while sum(json.loads(d.ask("GET", f"/v1/jobs/{i}"))["state"] == "running" for i in ids) < jobs:
            time.sleep(0.05)
        per_reader, heard = asyncio.run(watch_jobs(d, ids, readers, max(10, 2 * options.seconds)))
        delays = []
        for now, at in heard:
            text = at.decode()
            sent = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(text[19:23])
            delays.append((now - sent) * 1000)
        delays.sort()
        rate = len(delays) / readers / max(10, 2 * options.seconds) * jobs
        print(f"events: {readers} readers, {rate:.0f} events/s; from event to arrival p50 {delays[len(delays) // 2]:.0f} ms, p99 {delays[len(delays) * 99 // 100]:.0f} ms "
              f"(goal <= 250); {per_reader:.1f} KiB of resident memory each (goal <= 16)")
    finally:
        d.stop()


def bench_healthz(options):
    cores = os.cpu_count()
    d = Daemon(options.dir / "healthz", ROOT / "build/repquant", workers=cores, threads=1)
    try:
        wish = d.inputs((DIGITS / "model.onnx").read_bytes(), (DIGITS / "calib.npz").read_bytes(), "repquant-w4a4")
        for _ in range(600):
            d.ask("POST", "/v1/jobs", wish)
        while json.loads(d.ask("GET", "/v1/queue"))["jobs"]["running"] < cores:
            time.sleep(0.05)
        client, times, end = http.client.HTTPConnection("127.0.0.1", d.port, timeout=20), [], time.monotonic() + 3 * options.seconds
        while time.monotonic() < end:
            begun = time.perf_counter()
            client.request("GET", "/healthz")
            client.getresponse().read()
            times.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.005)
        waiting = json.loads(d.ask("GET", "/v1/queue"))["jobs"]["queued"]
        assert waiting > 0, "the jobs had ended before the measurement"
        times.sort()
        print(f"healthz: {cores} jobs compute; p50 {times[len(times) // 2]:.2f} ms, p99 {times[len(times) * 99 // 100]:.2f} ms (goal <= 20), worst {times[-1]:.1f} ms")
    finally:
        d.stop()


BENCHES = {"get": bench_get, "download": bench_download, "post": bench_post, "events": bench_events, "healthz": bench_healthz}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--sync-us", type=int, default=0, help="post: let each fsync take so many microseconds longer, for both sides")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "build" / "bench-load")
    parser.add_argument("what", nargs="*", default=[])
    options = parser.parse_args()
    for tool in ("wrk", "curl"):
        if not shutil.which(tool):
            sys.exit(f"load: {tool} is absent: scripts/setup operate")
    options.dir = options.dir.resolve()
    options.dir.mkdir(parents=True, exist_ok=True)
    print(f"load average at the start: {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors", flush=True)
    for name in options.what or BENCHES:
        BENCHES[name](options)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
