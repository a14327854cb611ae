"""Fixtures of the API tests: the real daemon on a free port of loopback, with a child program that does what a test says.

The programs come from the environment (scripts/run-api sets it): REPQUANTD, and REPQUANT for tests that quantize
for real.  tests/tools/fake_job.c stands in for repquant elsewhere: an upload tells it what to do, see its head.
"""
import collections
import contextlib
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import subprocess
import time

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REPQUANTD = os.environ.get("REPQUANTD", str(ROOT / "build" / "repquantd"))
REPQUANT = os.environ.get("REPQUANT", str(ROOT / "build" / "repquant"))
BUILD = pathlib.Path(REPQUANTD).parent
SANITIZER = BUILD.name if BUILD.name in ("asan", "tsan") else ""
# A sanitizer's shadow memory is larger than any limit that would be sensible for a job; ThreadSanitizer wants none at all. Counters of coverage are written
# outside the sandbox.
LIMITS = {"address-space": str(2**63 - 1), "sandbox": "off"} if SANITIZER else {"sandbox": "off"} if BUILD.name == "coverage" else {}
REPORTS = BUILD / "reports"     # what a sanitizer has found, in whatever process: tests/tools/reports.c
TOLD = re.compile(r"SUMMARY: \w+Sanitizer|WARNING: ThreadSanitizer|: runtime error: ")         # not that memory was refused


def thinned(items):
    """With a sanitizer, whose programs take ten times as long: all but every n-th case of the tests marked `thinned(n)`, with `tsan=m` all
    but every m-th with ThreadSanitizer: its programs take thirty times as long, and the cases of a test share their threads."""
    seen = collections.Counter()
    for item in items if SANITIZER else []:
        mark = item.get_closest_marker("thinned")
        if mark and seen[item.function] % mark.kwargs.get(SANITIZER, mark.args[0]):
            yield item
        seen[item.function] += 1


def pytest_collection_modifyitems(config, items):
    """Tests marked `long` are left out unless -m asks for them; pytest says how many."""
    left_out = set(thinned(items))
    if "long" not in config.option.markexpr:
        left_out.update(item for item in items if item.get_closest_marker("long"))
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def until(condition, seconds=10, what="the condition"):
    """The first true value of condition(), which is asked again and again."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true in {seconds} s"
        time.sleep(0.02)


def preloaded(folder, source):
    """A library of tests/, for LD_PRELOAD, from its source there."""
    library = pathlib.Path(folder) / pathlib.Path(source).with_suffix(".so").name
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-fno-omit-frame-pointer", "-shared", "-fPIC", "-pthread", ROOT / "tests" / source,
                    "-o", library, "-ldl"], check=True)
    return library


class Daemon:
    """repquantd on a data folder; start() again after stop() to see what survives."""

    def __init__(self, folder, program, options):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.options = {"listen": "127.0.0.1", "port": "0", "port-file": str(self.folder / "port"), "data": str(self.data),
                        "repquant": str(program), "drain": "5", "log-level": "debug", **LIMITS, **options}
        self.process = None
        self.environment, self.how = {}, {}     # what else the process gets: variables, and how subprocess starts it

    def launch(self):
        """Starts the process and does not wait until it listens."""
        arguments = [REPQUANTD] + [f"--{name}={value}" for name, value in self.options.items()]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REPQUANT")} | self.environment
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **self.how)

    def start(self):
        self.launch()
        port_file = self.folder / "port"
        until(lambda: port_file.exists() or self.process.poll() is not None, 20, "listening")
        assert self.process.poll() is None, self.log.read_text()
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        if self.options.get("auth", "on") == "on":
            self.token = (self.data / "token").read_text().strip()
            self.session.headers["Authorization"] = f"Bearer {self.token}"
        return self

    def stop(self, seconds=20):
        """Ends it as an operator does; returns the exit status."""
        if self.process is None:
            return None
        self.session.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def __call__(self, method, path, **more):
        more.setdefault("timeout", 30)
        return self.session.request(method, self.url + path, **more)

    def raw(self, data, seconds=15):
        """Sends bytes as they are; returns all that comes back until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as s:
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            parts = []
            while True:
                try:
                    part = s.recv(65536)
                except ConnectionResetError:
                    break
                if not part:
                    break
                parts.append(part)
        return b"".join(parts)

    def upload(self, kind, script, **query):
        """Registers a model or data set whose child will do what the script says."""
        answer = self("PUT", f"/v1/{kind}", params=query, data=script.encode())
        assert answer.status_code == 201, answer.text
        return answer.json()

    def inputs(self, quantize="", **more):
        """Ids of a model and a data set; `quantize` is the script of the job."""
        model = self.upload("models", f"#quantize {quantize}\n", name="model")
        data = self.upload("datasets", '#inspect result result.json {"format":"npz","samples":4}\n', name="data")
        return {"type": "quantize", "model_id": model["id"], "dataset_id": data["id"], "recipe": "minmax-w8a8", **more}

    def job(self, quantize="", **more):
        answer = self("POST", "/v1/jobs", json=self.inputs(quantize, **more))
        assert answer.status_code == 202, answer.text
        return answer.json()

    def ended(self, job_id, seconds=20):
        terminal = ("succeeded", "failed", "canceled")
        return until(lambda: (j := self("GET", f"/v1/jobs/{job_id}").json())["state"] in terminal and j, seconds, "the job's end")

    def blob(self, digest):
        """The file of a blob."""
        return self.data / "blobs" / digest[7:9] / digest[7:]

    def memory(self, what="VmRSS"):
        """Bytes of it that the process has: VmRSS now, VmHWM at most."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", status)[1]) * 1024

    def database(self):
        """For `with`: its rows, to be read only."""
        return contextlib.closing(sqlite3.connect(f"file:{self.data / 'repquant.db'}?mode=ro", uri=True))

    def leftovers(self):
        return [p.name for p in (self.data / "blobs").glob("new.*")]


def new_reports(read=collections.Counter()):
    """What sanitizers have told since the last call."""
    found = ""
    for path in sorted(REPORTS.glob("report.*")):
        text = path.read_text(errors="replace")[read[path]:]
        read[path] += len(text)
        found += text if TOLD.search(text) else ""
    return found


@pytest.fixture(scope="session", autouse=True)
def no_report_at_the_end():
    yield
    assert not (found := new_reports()), found


@pytest.fixture(autouse=True)
def no_report():
    """The first to be set up, hence asked when the test's own daemons have ended; a late one is the next test's."""
    yield
    assert not (found := new_reports()), found


@pytest.fixture(scope="session")
def fake_job(tmp_path_factory):
    """The child that obeys."""
    program = tmp_path_factory.mktemp("tools") / "fake_job"
    sources = [ROOT / "tests/tools/fake_job.c", *(ROOT / "core/base").glob("*.c")]
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-pthread", f"-I{ROOT}", *map(str, sources), "-o", str(program),
                    "-ljansson", "-lnettle", "-lm"], check=True, cwd=ROOT)
    return program


@pytest.fixture
def make_daemon(tmp_path_factory, fake_job):
    """make_daemon(**options) starts a daemon of the test's own; '_' in a name stands for '-'."""
    daemons = []

    def make(program=None, **options):
        folder = tmp_path_factory.mktemp("daemon")
        named = {name.replace("_", "-"): value for name, value in options.items()}
        daemons.append(Daemon(folder, program or fake_job, named).start())
        return daemons[-1]

    yield make
    for d in daemons:
        d.stop()
        shutil.rmtree(d.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory, fake_job):
    """One daemon for all tests that leave it as it was."""
    d = Daemon(tmp_path_factory.mktemp("daemon"), fake_job, {"max-upload": "16M"}).start()
    yield d
    assert d.process.poll() is None, "the daemon has died: " + d.log.read_text()[-4000:]
    assert d.stop() == 0
    assert not d.leftovers()


@pytest.fixture(scope="module")
def nothing_is_left(daemon):
    """For modules of attacks: behind all of them the daemon is as it was."""
    from unharmed import unharmed
    with unharmed(daemon):
        yield
