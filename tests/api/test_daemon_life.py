"""How the daemon starts, is killed, and ends; what survives on disk."""
import contextlib
import ctypes
import os
import pty
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from conftest import REPQUANTD, until


def children(daemon):
    """The processes of jobs that the daemon's program runs, by their command lines."""
    rows = subprocess.run(["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return [row for row in rows if str(daemon.options["repquant"]) + " job" in row]


def kill(daemon):
    daemon.session.close()
    daemon.process.kill()
    daemon.process.wait()
    (daemon.folder / "port").unlink(missing_ok=True)


def stage_of(daemon, job):
    return daemon("GET", f"/v1/jobs/{job['id']}").json()["stage"]


def scratch(daemon):
    return list((daemon.data / "scratch").iterdir())


def test_a_killed_daemon_takes_its_child_along_and_the_job_goes_on_from_its_journal(make_daemon):
    daemon = make_daemon()
    job = daemon.job("journal ab;expect-journal ab;stage quantizing;sleep 30000")
    until(lambda: stage_of(daemon, job) == "quantizing", what="the job running")
    kill(daemon)
    until(lambda: not children(daemon), 5, "the child's end")
    journals = list((daemon.data / "scratch").rglob("journal"))
    assert [j.read_text() for j in journals] == ["ab"]
    daemon.start()
    # The second attempt sees "ab" already, so its own "ab" makes "abab": the script ends with 1, three times in all.
    ended = daemon.ended(job["id"])
    assert ended["state"] == "failed" and ended["attempt"] == 3
    assert ended["problem"]["code"] == "worker.lost"
    until(lambda: not scratch(daemon), what="the scratch folder's end")


def test_a_child_that_listens_to_nobody_ends_with_its_daemon(make_daemon):
    daemon = make_daemon()
    job = daemon.job("stage quantizing;hang")
    until(lambda: stage_of(daemon, job) == "quantizing", what="the job running")
    assert children(daemon)
    kill(daemon)
    until(lambda: not children(daemon), 5, "the child's end")


def waiting_after_a_kill(daemon, **more):
    """A job whose attempt was lost and which may not run again at the moment: its journal is kept for it."""
    job = daemon.job("journal ab; stage quantizing; sleep 60000", **more)
    until(lambda: stage_of(daemon, job) == "quantizing", what="the job running")
    assert daemon("PUT", "/v1/teams/local/quota", json={"max_running": 0}).status_code == 200
    kill(daemon)
    daemon.start()
    assert daemon("GET", f"/v1/jobs/{job['id']}").json()["state"] == "queued"
    assert [p.name for p in (daemon.data / "scratch").rglob("journal")] == ["journal"]
    return job


def test_a_job_that_is_canceled_while_it_waits_for_another_attempt_leaves_nothing(make_daemon):
    daemon = make_daemon()
    job = waiting_after_a_kill(daemon)
    assert daemon("POST", f"/v1/jobs/{job['id']}/cancel").json()["state"] == "canceled"
    until(lambda: not scratch(daemon), what="the scratch folder's end")


def test_a_job_that_another_replaces_while_it_waits_for_another_attempt_leaves_nothing(make_daemon):
    daemon = make_daemon()
    job = waiting_after_a_kill(daemon)
    same = {name: job["request"][name] for name in ("type", "model_id", "dataset_id")}
    assert daemon("POST", "/v1/jobs", json={**same, "recipe": "minmax-w8a8", "dedupe": "replace_queued"}).status_code == 202
    assert daemon("GET", f"/v1/jobs/{job['id']}").json()["state"] == "canceled"
    until(lambda: not scratch(daemon), what="the scratch folder's end")


def test_a_job_whose_deadline_passes_while_it_waits_for_another_attempt_leaves_nothing(make_daemon):
    daemon = make_daemon()
    job = waiting_after_a_kill(daemon, deadline_s=10)
    assert daemon.ended(job["id"], 30)["problem"]["code"] == "resource.deadline"
    until(lambda: not scratch(daemon), what="the scratch folder's end")


def test_killed_again_and_again_it_loses_nothing_it_acknowledged(make_daemon):
    daemon = make_daemon()
    acknowledged = {}
    for round_ in range(6):
        for n in range(3):
            job = daemon.job(f"result model.onnx r{round_}n{n};sleep {20 * n}")
            acknowledged[job["id"]] = f"r{round_}n{n}"
        time.sleep(0.03 * round_)                   # another moment of the work each time
        kill(daemon)
        daemon.start()
    for job_id, text in acknowledged.items():
        ended = daemon.ended(job_id)
        assert ended["state"] == "succeeded", ended
        artifacts = daemon("GET", f"/v1/jobs/{job_id}/artifacts").json()["data"]
        assert [a["name"] for a in artifacts] == ["model.onnx"]
        assert daemon("GET", f"/v1/artifacts/{artifacts[0]['id']}/content").text == text
    assert not daemon.leftovers()


def test_a_shutdown_gives_the_running_job_back_without_counting_it(make_daemon):
    daemon = make_daemon()
    job = daemon.job("stage quantizing;hang")
    until(lambda: stage_of(daemon, job) == "quantizing", what="the job running")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 5
    assert not children(daemon)
    daemon.start()
    running = until(lambda: (j := daemon("GET", f"/v1/jobs/{job['id']}").json())["stage"] == "quantizing" and j, what="the job running again")
    assert running["attempt"] == 1


def test_a_second_signal_ends_it_at_once(make_daemon, monkeypatch):
    monkeypatch.setenv("TSAN_OPTIONS", "report_thread_leaks=0")         # it waits for none of them
    daemon = make_daemon(drain="60")
    with socket.create_connection(("127.0.0.1", daemon.port)) as slow:
        slow.sendall(b"PUT /v1/models?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
                     + f"Authorization: Bearer {daemon.token}\r\n\r\n".encode() + b"half")
        until(lambda: daemon.leftovers(), what="the upload's begin")
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: "daemon.draining" in daemon.log.read_text(), what="draining")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(3) == 1
    (daemon.folder / "port").unlink(missing_ok=True)
    daemon.start()
    assert not daemon.leftovers()                   # what the cut upload left was swept


@pytest.mark.parametrize("niceness", [5, 19])
def test_jobs_run_under_a_daemon_of_low_priority(make_daemon, niceness):
    """A priority that was lowered cannot be raised again without a capability, and need not be."""
    def lower():
        PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)     # fails where there is none to drop
    daemon = make_daemon()
    assert daemon.stop() == 0
    daemon.how = {"preexec_fn": lower}
    daemon.start()
    job = daemon.job("sleep 30000")
    (child,) = until(lambda: children(daemon), what="the child")
    until(lambda: os.getpriority(os.PRIO_PROCESS, int(child.split()[0])) == max(niceness, 10), what="the child's priority")
    assert daemon("POST", f"/v1/jobs/{job['id']}/cancel").status_code == 202
    assert daemon.ended(job["id"])["state"] == "canceled"


def test_a_data_folder_has_one_daemon(make_daemon):
    daemon = make_daemon()
    second = subprocess.run([REPQUANTD, f"--data={daemon.data}", "--port=0", f"--repquant={daemon.options['repquant']}"],
                            capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert "another repquantd" in second.stderr
    assert daemon("GET", "/readyz").status_code == 200


def test_the_first_token_is_shown_to_a_person_once_and_kept_for_its_owner(make_daemon):
    """Standard output that is no terminal is a log, which others read."""
    daemon = make_daemon()
    log = daemon.log.read_text()
    assert "rq_" not in log and f"token is in {daemon.data}/token" in log
    assert (daemon.data / "token").stat().st_mode & 0o777 == 0o600
    assert daemon.token.encode() not in (daemon.data / "repquant.db").read_bytes()
    assert daemon.stop() == 0
    shutil.rmtree(daemon.data)
    ours, theirs = pty.openpty()
    daemon.how = {"preexec_fn": lambda: os.dup2(theirs, 1)}
    for _ in range(2):
        (daemon.folder / "port").unlink(missing_ok=True)
        daemon.start()
        assert daemon.stop() == 0
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):      # EIO: all has been read, and nobody writes any more
        while piece := os.read(ours, 4096):
            seen += piece
    seen = seen.decode()
    os.close(ours)
    assert re.findall(r"^rq_[0-9A-Za-z]{43}", seen, re.M) == [daemon.token] and "rq_" not in daemon.log.read_text()


def change(daemon, *statements):
    """Stops it and changes its database."""
    assert daemon.process is None or daemon.stop() == 0
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def fails_to_start(daemon):
    daemon.launch()
    assert daemon.process.wait(20) != 0, daemon.log.read_text()
    daemon.process = None


def test_a_first_token_that_cannot_be_saved_does_not_lock_the_service(make_daemon):
    daemon = make_daemon()
    change(daemon, "DELETE FROM tokens")
    (daemon.data / "token").unlink()
    (daemon.data / "token").mkdir()                 # no file can take its place
    fails_to_start(daemon)
    (daemon.data / "token").rmdir()
    daemon.start()
    assert daemon("GET", "/v1/whoami").json()["role"] == "admin"
    assert len(daemon("GET", "/v1/tokens").json()["data"]) == 1


def test_a_first_token_that_was_saved_and_not_made_is_made_anew(make_daemon):
    daemon = make_daemon()
    first = daemon.token
    # No administrator is left, and the table takes no other row of the team.
    change(daemon, "UPDATE tokens SET scopes = 'jobs:read'", "CREATE UNIQUE INDEX one ON tokens (team)")
    fails_to_start(daemon)
    saved = (daemon.data / "token").read_text().strip()
    assert saved != first and saved not in daemon.log.read_text()       # what is shown works
    change(daemon, "DROP INDEX one")
    daemon.start()
    assert daemon.token not in (first, saved) and daemon("GET", "/v1/whoami").json()["role"] == "admin"


def test_when_the_last_administrators_token_has_expired_the_next_start_makes_one(make_daemon):
    daemon = make_daemon()
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    last = daemon("POST", "/v1/tokens", json={"name": "last", "role": "admin", "expires_at": soon}).json()
    mine = daemon("GET", "/v1/whoami").json()["token_id"]
    assert daemon("DELETE", f"/v1/tokens/{mine}").status_code == 204
    daemon.session.headers["Authorization"] = f"Bearer {last['token']}"
    until(lambda: daemon("GET", "/v1/whoami").status_code == 401, what="the token's end")
    first = daemon.token
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.token != first and daemon("GET", "/v1/whoami").json()["role"] == "admin"


@pytest.mark.parametrize("options, names", [
    (["--auth=off", "--listen=0.0.0.0"], "auth"), (["--port=70000"], "port"), (["--no-such=1"], "--no-such"),
    (["--listen=localhost"], "listen"), (["--workers=0"], "workers"),
])
def test_a_wrong_option_is_named_and_nothing_is_made(tmp_path, options, names):
    data = tmp_path / "data"
    ended = subprocess.run([REPQUANTD, f"--data={data}", *options], capture_output=True, text=True, timeout=10)
    assert ended.returncode == 2
    assert names in ended.stderr
    assert not data.exists()


def test_readiness_ends_before_anything_else_does(make_daemon):
    d = make_daemon(drain_notice=3)
    job = d.job("stage quantizing; hang")
    until(lambda: d("GET", job["urls"]["self"]).json()["stage"] == "quantizing", what="a job that runs")
    body = d.inputs("hang")
    assert d("GET", "/readyz").status_code == 200
    d.process.terminate()
    until(lambda: d("GET", "/readyz").status_code == 503, 2, "no longer ready")
    assert d("GET", "/readyz").json()["checks"]["accepting"] == "draining"
    assert d("GET", job["urls"]["self"]).json()["state"] == "running", "it is answered, and the job goes on"
    refused = d("POST", "/v1/jobs", json=body)
    assert refused.status_code == 503 and refused.json()["code"] == "service.draining" and refused.headers["Retry-After"]
    assert d.process.wait(20) == 0
