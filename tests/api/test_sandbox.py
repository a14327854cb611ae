"""What a quantizer that a hostile file has taken over can do: nothing but fail its job.

The child is tests/tools/fake_job.c, which locks itself in where the real one does, and then tries what its script says.
"""
import json
import pathlib

import pytest
from conftest import LIMITS, REPQUANT, ROOT, Daemon, preloaded, until

pytestmark = pytest.mark.skipif("sandbox" in LIMITS, reason="a sanitizer's child needs what the sandbox forbids")
SIGSYS = "system call that the sandbox forbids"
# What is tried: the code of the job's problem, and words of its text.
PROBES = {
    "read": ("environment.permission", "read: Permission denied"),
    "write-outside": ("environment.permission", "write-outside: Permission denied"),
    "reopen": ("environment.permission", "reopen: Permission denied"),
    "other-process": ("environment.permission", "other-process: Permission denied"),
    "symlink": ("worker.lost", SIGSYS),
    "socket": ("worker.lost", SIGSYS),
    "unix-socket": ("worker.lost", SIGSYS),
    "fork": ("worker.lost", SIGSYS),
    "kill": ("worker.lost", SIGSYS),
    "tgkill": ("worker.lost", SIGSYS),
    "owner": ("worker.lost", SIGSYS),
    "chmod": ("worker.lost", SIGSYS),
    "limits": ("environment.permission", "limits: Operation not permitted"),
    "ptrace": ("worker.lost", SIGSYS),
    "exec": ("worker.lost", SIGSYS),
    "code": ("worker.lost", SIGSYS),
    "old-thread": ("worker.lost", SIGSYS),
    "memory": ("environment.permission", "memory: Cannot allocate memory"),
    "file": ("resource.disk", "larger file"),
    "stack": ("worker.lost", "signal 11"),
    "loop": ("resource.deadline", "longer than 2 seconds"),
}


@pytest.fixture(scope="module")
def boxed(tmp_path_factory, fake_job):
    d = Daemon(tmp_path_factory.mktemp("boxed"), fake_job, {"sandbox": "required", "job-timeout": "2"}).start()
    yield d
    assert d.stop() == 0


def outside(daemon):
    """The names in the daemon's data folder that are not in a job's."""
    return {str(p) for p in daemon.folder.rglob("*") if "outside" in p.name or "link" in p.name}


@pytest.mark.parametrize("what", PROBES)
def test_a_child_that_tries_fails_its_job_and_nothing_else(boxed, what):
    pid = boxed.process.pid
    job = boxed.job(f"try {what}", max_attempts=1)
    ended = boxed.ended(job["id"], 30)
    code, words = PROBES[what]
    assert ended["state"] == "failed"
    assert ended["problem"]["code"] == code and words in ended["problem"]["detail"], ended["problem"]
    assert not outside(boxed)
    assert boxed.process.pid == pid and boxed.process.poll() is None
    assert boxed("GET", "/healthz").status_code == 200
    after = boxed.ended(boxed.job("result model.onnx bytes", max_attempts=1)["id"])
    assert after["state"] == "succeeded" and after["engine"]["sandbox"] == "full"


def test_a_broken_seal_is_no_reason_to_try_again(boxed):
    ended = boxed.ended(boxed.job("try socket", max_attempts=3)["id"])
    assert ended["state"] == "failed" and ended["attempt"] == 1


def test_the_level_is_told(boxed):
    told = boxed("GET", "/v1/capabilities").json()["sandbox"]
    assert told["level"] == "full" and told["landlock_abi"] >= 1


def looked_into(daemon, what):
    """What the log, not the answer, says of an upload whose child tried something while it was looked into."""
    answer = daemon("PUT", "/v1/models?name=hostile", data=f"#inspect try {what}\n".encode())
    assert answer.status_code == 500 and "its log has the details" in answer.json()["detail"], answer.text
    id_ = answer.headers["X-Request-Id"]
    line = until(lambda: [line for line in daemon.log.read_text().splitlines() if id_ in line and '"http.request"' in line], what="the request in the log")[0]
    return json.loads(line)["error"], json.loads(line)["detail"]


@pytest.mark.parametrize("what", ["read", "write-outside", "other-process", "socket", "fork", "code"])
def test_looking_into_an_upload_is_locked_in_too(boxed, what):
    code, words = PROBES[what]
    told = looked_into(boxed, what)
    assert told[0] == code and words in told[1], told


def test_without_a_sandbox_the_same_gets_through_and_is_told(make_daemon):
    """The probes can fail to be contained: else the tests above would show nothing."""
    d = make_daemon(sandbox="off")
    assert d("GET", "/v1/capabilities").json()["sandbox"]["level"] == "none"
    for what in ("read", "socket", "code", "unix-socket", "tgkill", "owner", "chmod", "limits"):
        ended = d.ended(d.job(f"try {what}", max_attempts=1)["id"])
        assert "got through" in ended["problem"]["detail"], what
        assert ended["engine"]["sandbox"] == "none"
        assert looked_into(d, what)[1] == f"{what}: got through"


@pytest.fixture(scope="module")
def old_kernel(tmp_path_factory):
    return preloaded(tmp_path_factory.mktemp("kernel"), "tools/old_kernel.c")


def start_without(folder, program, library, without, mode):
    d = Daemon(folder, program, {"sandbox": mode})
    d.environment = {"LD_PRELOAD": str(library), "WITHOUT": without}
    return d


@pytest.mark.parametrize("without, missing", [("landlock", "Landlock"), ("seccomp", "seccomp filters"), ("landlock seccomp", "Landlock")])
def test_where_the_kernel_lacks_what_is_required_the_daemon_does_not_start(tmp_path, fake_job, old_kernel, without, missing):
    d = start_without(tmp_path, fake_job, old_kernel, without, "required")
    d.launch()
    try:
        assert d.process.wait(20) == 2 and not (tmp_path / "port").exists()
    finally:
        d.process.kill()                                # where it has started nevertheless
        d.process.wait()
    assert f"this kernel offers no {missing}, which --sandbox=required wants; see deploy/README.md" in d.log.read_text()


# What a kernel lacks, the level that leaves, and what becomes of a probe that Landlock stops and of one that the filter stops.
LESS = {"landlock": ("partial", "read: got through", SIGSYS), "seccomp": ("partial", "read: Permission denied", "socket: got through"),
        "landlock seccomp": ("none", "read: got through", "socket: got through")}


@pytest.mark.parametrize("without", LESS)
def test_what_the_kernel_has_is_used_and_the_level_is_told(tmp_path, fake_job, old_kernel, without):
    level, read, socket = LESS[without]
    d = start_without(tmp_path, fake_job, old_kernel, without, "best-effort").start()
    try:
        told = d("GET", "/v1/capabilities").json()["sandbox"]
        assert told["level"] == level and (told["landlock_abi"] == 0) == ("landlock" in without)
        for what, words in ("read", read), ("socket", socket):
            ended = d.ended(d.job(f"try {what}", max_attempts=1)["id"])
            assert words in ended["problem"]["detail"], ended["problem"]
            assert ended["engine"]["sandbox"] == level
            assert words in looked_into(d, what)[1]
        assert d.ended(d.job("result model.onnx bytes")["id"])["state"] == "succeeded"
    finally:
        assert d.stop() == 0


def test_a_word_that_is_no_mode_is_refused(make_daemon):
    with pytest.raises(AssertionError, match="required, best-effort or off"):
        make_daemon(sandbox="maybe")


def status_of(daemon):
    """/proc/*/status of the daemon's real children."""
    rows = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "status").read_text()
            fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            if fields["PPid"].strip() == str(daemon.process.pid) and fields["Name"] == "repquant":
                rows += [dict(line.split(":\t", 1) for line in (t / "status").read_text().splitlines() if ":\t" in line)
                         for t in (folder / "task").iterdir()]
        except (OSError, KeyError):
            pass
    return rows


def test_every_thread_of_the_real_quantizer_is_locked_in_and_it_does_its_work(make_daemon):
    """Digits in, an artifact out, with both locks on; while it runs every thread has the filter and can gain no privileges."""
    d = make_daemon(program=REPQUANT, sandbox="required", threads="2")
    digits = ROOT / "examples/digits"
    model = d("PUT", "/v1/models?name=digits", data=(digits / "model.onnx").read_bytes()).json()
    data = d("PUT", "/v1/datasets?name=calib", data=(digits / "calib.npz").read_bytes()).json()
    job = d("POST", "/v1/jobs", json={"type": "quantize", "model_id": model["id"], "dataset_id": data["id"], "recipe": "repquant-w4a4"}).json()
    sealed = until(lambda: (rows := status_of(d)) and all(r["Seccomp"].strip() == "2" for r in rows) and rows, 20, "a sealed quantizer")
    assert all(r["NoNewPrivs"].strip() == "1" for r in sealed)
    ended = d.ended(job["id"], 60)
    assert ended["state"] == "succeeded" and ended["engine"]["sandbox"] == "full"
    assert ended["result"]["peak_bytes"] > 0
