"""A data folder of every earlier version of the schema is brought up to date, with what is in it."""
import hashlib
import re
import sqlite3
import subprocess

import pytest
from conftest import ROOT, Daemon

TOKEN = "rq_" + "7" * 43
JOB = "job_01JD8Z6W3V7QK5T9N2M4X8C0RB"
NOW = 1_790_000_000_000_000


def steps():
    """The texts of storage/schema.c, as the compiler reads them."""
    source = subprocess.run(["gcc", "-E", "-P", f"-I{ROOT}", str(ROOT / "storage/schema.c")], check=True, capture_output=True, text=True).stdout
    table = re.search(r"steps\[\] = \{(.*?)\n?\};", source, re.S)[1]
    found = [""]
    for literal, comma in re.findall(r'"((?:[^"\\]|\\.)*)"|(,)', table):
        if comma:
            found.append("")
        found[-1] += literal
    return [text for text in found if text]


STEPS = steps()


def test_the_steps_are_found():
    assert STEPS[0].startswith("CREATE TABLE blobs") and len(STEPS) >= 5
    assert all(sqlite3.complete_statement(step) for step in STEPS)


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_an_older_database_goes_on(tmp_path, fake_job, version):
    daemon = Daemon(tmp_path, fake_job, {})
    daemon.data.mkdir()
    (daemon.data / "token").write_text(TOKEN)
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        for step in STEPS[:version]:
            db.executescript(step)
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO tokens (id, team, name, scopes, hash, created_at) VALUES ('tok_01JD8Z6W3V7QK5T9N2M4X8C0RB', 'red', 'old', 'admin', ?, ?)",
                   (hashlib.sha256(TOKEN.encode()).hexdigest(), NOW))
        db.execute("INSERT INTO jobs (id, team, type, model_id, dataset_id, recipe, max_attempts, state, queued_at, succeeded_at)"
                   " VALUES (?, 'red', 'quantize', 'mdl_x', 'ds_x', '{}', 3, 'succeeded', ?, ?)", (JOB, NOW, NOW))
    daemon.start()
    try:
        assert daemon("GET", "/v1/whoami").json()["team"] == "red"
        assert daemon("GET", f"/v1/jobs/{JOB}").json()["state"] == "succeeded"
        assert daemon("GET", "/v1/audit").status_code == 200
        if version == 1:            # before teams had rows
            assert daemon("GET", "/v1/teams/red").status_code == 200
        new = daemon.job("result model.onnx M")
        assert daemon.ended(new["id"])["state"] == "succeeded"
    finally:
        assert daemon.stop() == 0
    with sqlite3.connect(daemon.data / "repquant.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",) and db.execute("PRAGMA foreign_key_check").fetchall() == []
