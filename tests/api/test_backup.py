"""repquantd backup, verify and restore: beside a daemon that works, and after its folder is gone."""
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import threading

import pytest
from conftest import REPQUANTD, Daemon

JOB = "stage preparing; stage quantizing; layer 1; result model.onnx MODEL"


def command(*arguments, status=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REPQUANT")}
    ended = subprocess.run([REPQUANTD, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment)
    assert ended.returncode == status, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def everything(d):
    """What the daemon says of its jobs and artifacts, and the artifacts' bytes."""
    jobs = d("GET", "/v1/jobs", params={"limit": 200}).json()["data"]
    told = {}
    for job in jobs:
        path = f"/v1/jobs/{job['id']}"
        artifacts = d("GET", path + "/artifacts").json()["data"]
        told[job["id"]] = {"job": d("GET", path).json(), "events": d("GET", path + "/events").json(), "layers": d("GET", path + "/layers").json(),
                           "artifacts": [(a, hashlib.sha256(d("GET", a["urls"]["content"]).content).hexdigest()) for a in artifacts]}
        assert all(a["digest"] == "sha256:" + digest for a, digest in told[job["id"]]["artifacts"])
    return told


def restored(d, tmp_path, backup, fake_job):
    """A daemon on what was restored; it knows the old one's token."""
    folder = tmp_path / "restored"
    folder.mkdir()
    again = Daemon(folder, fake_job, {})
    assert "restored to" in command("restore", backup, f"--data={again.data}")
    shutil.copy(d.data / "token", again.data / "token")
    return again.start()


def test_a_restored_folder_gives_the_same_jobs_and_artifacts(make_daemon, tmp_path, fake_job):
    d = make_daemon()
    ids = [d.job(JOB)["id"] for _ in range(3)] + [d.job("exit 1")["id"]]
    for i in ids:
        d.ended(i)
    half = d("POST", "/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "100"}, data=b"")
    assert half.status_code == 201
    before = everything(d)
    backup = tmp_path / "backup"
    assert "files of" in command("backup", backup, f"--data={d.data}")
    assert "all whole" in command("verify", backup)
    again = restored(d, tmp_path, backup, fake_job)
    try:
        assert everything(again) == before and len(before) == 4
        assert again("HEAD", half.headers["Location"].replace(d.url, "")).status_code == 404, "an upload that had not ended is not restored"
        assert again("GET", "/v1/audit").status_code == 200
        again.ended(again.job(JOB)["id"])
    finally:
        assert again.stop() == 0
    assert not (backup / "token").exists(), "the secret stays where it is"


def work(d, stop, done, failures):
    """Uploads, submits and deletes until told to stop; what was acknowledged as done goes to `done`."""
    try:
        while not stop.is_set():
            job = d.job(JOB)["id"]
            d.ended(job)
            done.append(job)
            if len(done) % 3 == 0:
                assert d("DELETE", f"/v1/jobs/{done.pop(0)}").status_code == 204
    except Exception as e:      # told to the test, which ends with it
        failures.append(repr(e))


def test_backups_under_load_hold_all_that_was_acknowledged(make_daemon, tmp_path, fake_job):
    d = make_daemon(workers=2, rate=0)
    kept = [d.job(JOB)["id"] for _ in range(4)]
    for job in kept:
        d.ended(job)
    before = everything(d)
    stop, failures, threads = threading.Event(), [], []
    for _ in range(3):
        threads.append(threading.Thread(target=work, args=(d, stop, [], failures)))
        threads[-1].start()
    backup = tmp_path / "backup"
    try:
        for _ in range(4):      # into the same folder: each must leave it whole
            command("backup", backup, f"--data={d.data}")
            assert "all whole" in command("verify", backup)
        assert "all whole" in command("verify", d.data), "the folder that is served"
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures
    assert len(list(backup.glob("*.db"))) == 1, "the database of the last one alone"
    again = restored(d, tmp_path, backup, fake_job)
    try:
        after = everything(again)
        assert {i: after[i] for i in kept} == before
        for told in after.values():     # what ran then runs again
            again.ended(told["job"]["id"])
        again.ended(again.job(JOB)["id"])
    finally:
        assert again.stop() == 0
    assert "all whole" in command("verify", again.data)


def test_a_second_backup_copies_what_is_new_and_drops_what_is_gone(make_daemon, tmp_path):
    d = make_daemon()
    d.ended(d.job(JOB)["id"])
    backup = tmp_path / "backup"
    command("backup", backup, f"--data={d.data}")
    (backup / "blobs" / "new.0123456789abcdef").write_bytes(b"left by a backup that was killed")
    (backup / "blobs/00" / ("0" * 64)).write_bytes(b"of an older one")
    assert command("backup", backup, f"--data={d.data}").endswith("; 0 were new\n")
    d.upload("models", "#quantize another\n", name="another")
    assert command("backup", backup, f"--data={d.data}").endswith("; 1 were new\n")
    assert not (backup / "blobs/00" / ("0" * 64)).exists()
    manifest = json.loads((backup / "manifest.json").read_text())
    assert manifest["blobs"]["count"] == len([p for p in (backup / "blobs").glob("??/*")])
    series = [line for line in d("GET", "/metrics").text.splitlines() if line.startswith("repquant_last_backup_seconds ")]
    assert abs(float(series[0].split()[1]) - (backup / "manifest.json").stat().st_mtime) < 5


def change(path):
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what, damage", [
    ("blobs/??/*", change), ("blobs/??/*", lambda p: p.unlink()), ("blobs/??/*", lambda p: (p.chmod(0o600), p.write_bytes(b""))),
    ("*.db", change), ("*.db", lambda p: p.unlink()), ("manifest.json", lambda p: p.write_text("{")),
], ids=["changed", "lost", "short", "database-changed", "database-lost", "manifest"])
def test_damage_is_found_and_named_and_nothing_is_restored(make_daemon, tmp_path, what, damage):
    d = make_daemon()
    d.ended(d.job(JOB)["id"])
    backup = tmp_path / "backup"
    command("backup", backup, f"--data={d.data}")
    victim = sorted(backup.glob(what))[0]
    damage(victim)
    status = 3 if victim.exists() else 1
    assert victim.name in command("verify", backup, status=status)
    told = command("restore", backup, f"--data={tmp_path / 'new'}", status=status)
    assert victim.name in told and not (tmp_path / "new" / "repquant.db").exists()


def test_rotten_bytes_of_the_service_are_named_and_spare_the_last_backup(make_daemon, tmp_path):
    d = make_daemon()
    d.ended(d.job(JOB)["id"])
    backup = tmp_path / "backup"
    command("backup", backup, f"--data={d.data}")
    d.upload("models", "#quantize another\n", name="another")
    new = {p.name for p in (d.data / "blobs").glob("??/*")} - {p.name for p in (backup / "blobs").glob("??/*")}
    victim = next((d.data / "blobs").glob("??/" + new.pop()))
    change(victim)
    assert victim.name in command("backup", backup, f"--data={d.data}", status=3)
    assert "damaged: " in (told := command("verify", d.data, status=3)) and victim.name in told
    assert "all whole" in command("verify", backup)


def test_folders_that_are_something_else_are_refused(make_daemon, tmp_path):
    d = make_daemon()
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in command("backup", full, f"--data={d.data}", status=2)
    assert "repquant.db" in command("backup", d.data, f"--data={d.data}", status=2)
    assert "no repquant.db" in command("backup", tmp_path / "b", f"--data={empty}", status=2)
    assert "manifest.json" in command("verify", full, status=2)
    assert "in one that must be there" in command("backup", tmp_path / "not" / "mounted", f"--data={d.data}", status=1)
    command("backup", tmp_path / "b", f"--data={d.data}")
    assert "thesis.tex" in command("restore", tmp_path / "b", f"--data={full}", status=1)
    assert "holds" in command("restore", tmp_path / "b", f"--data={d.data}", status=1)
    with open(tmp_path / "b" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another command" in command("backup", tmp_path / "b", f"--data={d.data}", status=1)
    assert "no such command" in command("explode", status=2) and "name a folder" in command("verify", status=2)
    assert (full / "thesis.tex").read_text() == "years of work" and sorted(p.name for p in full.iterdir()) == ["thesis.tex"]
