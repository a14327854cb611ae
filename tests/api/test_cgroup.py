"""Control groups of jobs' processes, in a real cgroup v2 folder where this machine lets us make one.

What the limits are, and what a job is told when it met them, is tests/unit/daemon/test_cgroup.c's, in any folder.
"""
import os
import pathlib
import signal
import subprocess
import tempfile
import threading

import pytest
from conftest import LIMITS, REPQUANT, ROOT, until

ROOTS = [pathlib.Path("/sys/fs/cgroup/unified"), pathlib.Path("/sys/fs/cgroup")]


def new_folder():
    """A folder of cgroup v2; None where there is none to be had."""
    for root in ROOTS:
        if (root / "cgroup.controllers").exists() and os.access(root, os.W_OK):
            try:
                return pathlib.Path(tempfile.mkdtemp(prefix="repquant-test-", dir=root))
            except OSError:         # it is mounted read-only
                pass
    return None


@pytest.fixture
def folder():
    made = new_folder()
    if not made:
        pytest.skip("no folder of cgroup v2 can be made here: not root, or it is read-only")
    yield made
    (made / "cgroup.kill").write_text("1")
    until(lambda: "populated 0" in (made / "cgroup.events").read_text(), 10, "an empty control group")
    for group in [*made.glob("*/"), made]:
        group.rmdir()


@pytest.fixture(autouse=True)
def locks():
    if "sandbox" in LIMITS:
        pytest.skip("without a sandbox there are no groups")


def groups(folder):
    """The processes of each child's group."""
    found = {}
    for group in folder.glob("job-*"):
        try:
            found[group.name] = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        except OSError:         # it has just ended
            pass
    return found


def processes(folder):
    return [pid for pids in groups(folder).values() for pid in pids]


def alive(pid):
    """Zombies are not: nobody may be there to reap them."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def threads(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def controllers(folder):
    return [word for word in ("memory", "pids") if word in (folder / "cgroup.controllers").read_text().split()]


def test_every_child_has_a_group_of_its_own_and_no_group_outlives_it(folder, make_daemon):
    d = make_daemon(cgroup=folder, workers=2)
    assert d("GET", "/v1/capabilities").json()["sandbox"]["cgroup"] == controllers(folder)
    assert (folder / "daemon/cgroup.procs").read_text().split() == [str(d.process.pid)]
    jobs = [d.job("stage quantizing; sleep 60000") for _ in range(2)]
    until(lambda: [len(pids) for pids in groups(folder).values()] == [1, 1], 10, "a process in each of two groups")
    for pid in processes(folder):
        assert pathlib.Path(f"/proc/{pid}/stat").read_text().split()[3] == str(d.process.pid)
    for job in jobs:
        assert d("POST", f"/v1/jobs/{job['id']}/cancel").status_code in (200, 202)
        ended = d.ended(job["id"])
        assert ended["state"] == "canceled" and ended["engine"]["cgroup"] == controllers(folder)
    until(lambda: not groups(folder), 10, "the end of the groups")


def test_looking_into_an_upload_has_one_too(folder, make_daemon):
    d = make_daemon(cgroup=folder, inspect_timeout=2)
    upload = threading.Thread(target=lambda: d("PUT", "/v1/models?name=slow", data=b"#inspect sleep 60000\n"))
    upload.start()
    until(lambda: processes(folder), 10, "a process in a group")
    upload.join()
    assert not groups(folder)


def test_the_real_quantizer_works_in_its_group(folder, make_daemon):
    d = make_daemon(program=REPQUANT, cgroup=folder, sandbox="required", threads=2)
    digits = ROOT / "examples/digits"
    model = d("PUT", "/v1/models?name=digits", data=(digits / "model.onnx").read_bytes()).json()
    data = d("PUT", "/v1/datasets?name=calib", data=(digits / "calib.npz").read_bytes()).json()
    job = d("POST", "/v1/jobs", json={"type": "quantize", "model_id": model["id"], "dataset_id": data["id"], "recipe": "repquant-w4a4"}).json()
    counts = []

    def ended():
        counts.extend(threads(pid) for pid in processes(folder))
        return d("GET", f"/v1/jobs/{job['id']}").json()["state"] in ("succeeded", "failed")
    until(ended, 60, "the job's end")
    assert d.ended(job["id"])["state"] == "succeeded"
    assert 2 <= max(counts) <= 2 + 8, "pids.max (server/task.c) has twice this room beside --threads"


def test_what_is_left_in_the_group_of_a_killed_daemons_child_ends_with_the_next_start(folder, make_daemon):
    """A child itself ends with its daemon; something else stands in for what it might have left."""
    d = make_daemon(cgroup=folder)
    job = d.job("stage quantizing; hang")
    group, [child] = until(lambda: next(((name, pids) for name, pids in groups(folder).items() if pids), None), 10, "a process")
    with subprocess.Popen(["sleep", "60"]) as left:
        (folder / group / "cgroup.procs").write_text(str(left.pid))
        (d.folder / "port").unlink()
        d.process.kill()
        d.process.wait()
        until(lambda: not alive(child), 10, "the child's end")
        assert left.poll() is None and groups(folder)
        d.options["silence-timeout"] = "1"
        d.start()
        assert left.wait(10) == -signal.SIGKILL
    assert d.ended(job["id"], 60)["state"] == "failed"
    until(lambda: not groups(folder), 10, "the end of all groups")


def test_a_second_daemon_is_refused_the_folder_and_ends_nobodys_child(folder, make_daemon):
    d = make_daemon(cgroup=folder)
    d.job("stage quantizing; sleep 60000")
    child = until(lambda: processes(folder), 10, "a process")[0]
    with pytest.raises(AssertionError, match="another repquantd uses it"):
        make_daemon(cgroup=folder)
    assert processes(folder) == [child] and alive(child)


@pytest.mark.parametrize("path, words", [("/proc", "cgroup.controllers: .*No such file"), ("/nowhere", "the folder: .*No such file"), ("here", "auto, off or the path")])
def test_a_folder_that_cannot_be_used_is_refused(make_daemon, path, words):
    with pytest.raises(AssertionError, match=f"cgroup: .*{words}"):
        make_daemon(cgroup=path)


def inside(folder):
    """Starts a daemon as systemd does: in the folder."""
    return lambda: (folder / "cgroup.procs").write_text("0")


@pytest.mark.parametrize("mark, used", [(b"1", True), (b"0", False), (None, False)])
def test_auto_takes_the_daemons_own_group_only_if_it_was_given_away(folder, make_daemon, mark, used):
    if mark:
        os.setxattr(folder, "user.delegate", mark)
    d = make_daemon()
    assert d("GET", "/v1/capabilities").json()["sandbox"]["cgroup"] is None
    d.stop()
    d.how["preexec_fn"] = inside(folder)
    d.start()
    told = d("GET", "/v1/capabilities").json()["sandbox"]["cgroup"]
    assert told == (controllers(folder) if used else None)
    assert (folder / ("daemon" if used else ".") / "cgroup.procs").read_text().split() == [str(d.process.pid)]


def test_auto_that_does_not_work_is_told_once_and_does_without(folder, make_daemon):
    os.setxattr(folder, "user.delegate", b"1")
    (folder / "cgroup.max.descendants").write_text("0")
    d = make_daemon()
    d.stop()
    d.how["preexec_fn"] = inside(folder)
    d.start()
    assert d("GET", "/v1/capabilities").json()["sandbox"]["cgroup"] is None
    assert d.log.read_text().count("cgroup.unused") == 1
    assert d.ended(d.job("result model.onnx x")["id"])["state"] == "succeeded"


def test_off_and_no_sandbox_are_no_groups(folder, make_daemon):
    for options in ({"cgroup": "off"}, {"cgroup": folder, "sandbox": "off"}):
        d = make_daemon(**options)
        assert d("GET", "/v1/capabilities").json()["sandbox"]["cgroup"] is None
        assert d.ended(d.job("result model.onnx x")["id"])["engine"]["cgroup"] is None
        assert not list(folder.glob("*/"))
