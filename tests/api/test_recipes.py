"""Recipes that a team has saved: kept under a name, meant by it in jobs, gone when deleted; and how names of presets and of other teams stand beside them."""
import concurrent.futures
import contextlib
import json
import os
import sqlite3
import subprocess

import pytest
from conftest import REPQUANT, ROOT
from desk import CTL

DIGITS = ROOT / "examples/digits"
OURS = {"preset": "minmax-w8a8", "exclude": ["*head*"]}


def save(d, name="ours", recipe=OURS, **more):
    return d("POST", "/v1/recipes", json={"name": name, "recipe": recipe, **more})


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


def rows(d):
    return {row["name"]: row for row in d("GET", "/v1/recipes").json()["data"]}


def preset(d, name="minmax-w8a8"):
    return d("GET", f"/v1/recipes/{name}").json()


def test_a_recipe_is_saved_complete_and_survives_a_restart(daemon):
    answer = save(daemon, description="heads stay in float")
    assert answer.status_code == 201 and answer.headers["Location"] == "/v1/recipes/ours"
    row = answer.json()
    assert row["recipe"] == {**preset(daemon), "name": "ours", "exclude": ["*head*"]}
    assert (row["name"], row["description"], row["preset"]) == ("ours", "heads stay in float", False) and row["created_at"]
    assert row["created_by"] == daemon("GET", "/v1/whoami").json()["token_id"]
    assert daemon.stop() == 0
    daemon.start()
    assert rows(daemon)["ours"] == {**row, "recipe": None} and daemon("GET", "/v1/recipes/ours").json() == row["recipe"]
    names = list(rows(daemon))
    assert names.index("ours") == len(names) - 1 and rows(daemon)["minmax-w8a8"]["preset"] is True


def test_what_is_saved_is_a_recipe_by_itself(daemon):
    """A complete recipe that somebody fetched and changed, a preset by its name, and one that starts from what is saved."""
    changed = {**preset(daemon), "exclude": ["*x*"]}
    assert save(daemon, "fetched", changed).json()["recipe"] == {**changed, "name": "fetched"}
    assert save(daemon, "alias", "repquant-w4a8").json()["recipe"] == {**preset(daemon, "repquant-w4a8"), "name": "alias"}
    assert save(daemon, "next", {"preset": "fetched", "target": "openvino"}).json()["recipe"]["exclude"] == ["*x*"]
    assert daemon("DELETE", "/v1/recipes/fetched").status_code == 204
    assert daemon("GET", "/v1/recipes/next").json()["exclude"] == ["*x*"], "what it was made from may go"


def test_a_name_stands_for_one_recipe(daemon):
    first = save(daemon)
    again = save(daemon)
    assert (first.status_code, again.status_code) == (201, 200) and again.json() == first.json()
    for other, what in ({"recipe": "minmax-w8a8"}, "another recipe"), ({"description": "something else"}, "another description"):
        answer = save(daemon, **other)
        assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (409, "resource.conflict", "/name")
        assert what in answer.json()["detail"]
    assert save(daemon, recipe="ours").status_code == 200, "as itself"
    assert daemon("GET", "/v1/recipes/ours").json() == first.json()["recipe"]
    assert daemon("DELETE", "/v1/recipes/ours").status_code == 204 and daemon("DELETE", "/v1/recipes/ours").status_code == 404
    assert save(daemon, recipe="minmax-w8a8").status_code == 201


def test_the_presets_keep_their_names(daemon):
    answer = save(daemon, "minmax-w8a8")
    assert (answer.status_code, answer.json()["pointer"]) == (409, "/name") and "preset" in answer.json()["detail"]
    assert daemon("DELETE", "/v1/recipes/minmax-w8a8").status_code == 409 and preset(daemon)["name"] == "minmax-w8a8"


@pytest.mark.parametrize("body, code, pointer", [
    ({"recipe": OURS}, "request.json", "/name"),
    ({"name": "ours"}, "request.json", "/recipe"),
    ({"name": "", "recipe": OURS}, "request.json", "/name"),
    ({"name": "Ours", "recipe": OURS}, "request.json", "/name"),
    ({"name": "../x", "recipe": OURS}, "request.json", "/name"),
    ({"name": "x" * 65, "recipe": OURS}, "request.json", "/name"),
    ({"name": "..", "recipe": OURS}, "request.json", "/name"),
    ({"name": "-x", "recipe": OURS}, "request.json", "/name"),
    ({"name": "x.json", "recipe": OURS}, "request.json", "/name"),
    ({"name": "ours", "recipe": OURS, "description": "a\x1b[31m"}, "request.invalid", "/description"),
    ({"name": "ours", "recipe": OURS, "description": "é" * 101}, "request.json", "/description"),
    ({"name": "ours", "recipe": OURS, "note": 1}, "request.json", "/note"),
    ({"name": "ours", "recipe": 7}, "recipe.field", "/recipe"),
    ({"name": "ours", "recipe": "none"}, "recipe.unknown", "/recipe"),
    ({"name": "ours", "recipe": {"preset": "none"}}, "recipe.unknown", "/recipe/preset"),
    ({"name": "ours", "recipe": {"preset": "minmax-w8a8", "weights": {"bits": 9}}}, "recipe.field", "/recipe/weights/bits"),
    ({"name": "ours", "recipe": {"preset": "minmax-w8a8", "target": "tensorrt", "activations": {"symmetric": False}}}, "recipe.combination",
     "/recipe/activations/symmetric"),
])
def test_what_cannot_be_saved_is_refused_with_its_place(daemon, body, code, pointer):
    before = rows(daemon)
    answer = daemon("POST", "/v1/recipes", json=body)
    assert answer.json().get("code") == code and answer.json()["pointer"] == pointer and answer.status_code in (400, 422), answer.text
    assert rows(daemon) == before


def test_a_job_means_a_saved_recipe_by_its_name_and_keeps_it(daemon):
    save(daemon)
    asked = daemon.inputs("hang", recipe="ours")
    job = daemon("POST", "/v1/jobs", json=asked).json()
    assert job["recipe"]["exclude"] == ["*head*"] and job["recipe"]["name"] == "ours"
    changed = daemon.job("hang", recipe={"preset": "ours", "target": "openvino"})["recipe"]
    assert (changed["exclude"], changed["target"], changed["name"]) == (["*head*"], "openvino", "ours-custom")
    assert daemon("DELETE", "/v1/recipes/ours").status_code == 204
    assert daemon("GET", job["urls"]["self"]).json()["recipe"] == job["recipe"]
    gone = daemon("POST", "/v1/jobs", json=asked)
    assert (gone.status_code, gone.json()["code"], gone.json()["pointer"]) == (422, "recipe.unknown", "/recipe")
    assert "minmax-w8a8" in gone.json()["detail"], "the presets are told"


def test_a_long_name_is_cut_where_the_recipe_is_changed(daemon):
    name = "x" * 64
    assert save(daemon, name).status_code == 201
    assert daemon.job("hang", recipe={"preset": name, "target": "openvino"})["recipe"]["name"] == "x" * 57 + "-custom"


def test_another_teams_recipe_is_none(daemon):
    """A name is each team's own; what others saved under it is told by nothing."""
    save(daemon)
    assert daemon("POST", "/v1/teams", json={"name": "blue"}).status_code == 201
    token = daemon("POST", "/v1/tokens", json={"name": "b", "role": "member", "team": "blue"}).json()["token"]
    own, daemon.session.headers["Authorization"] = daemon.session.headers["Authorization"], f"Bearer {token}"
    assert "ours" not in rows(daemon) and daemon("GET", "/v1/recipes/ours").status_code == 404
    assert daemon("DELETE", "/v1/recipes/ours").status_code == 404
    assert save(daemon, "theirs", "ours").json()["code"] == "recipe.unknown"
    assert save(daemon, recipe="minmax-w8a8").status_code == 201
    daemon.session.headers["Authorization"] = own
    assert daemon("GET", "/v1/recipes/ours").json()["exclude"] == ["*head*"]


def test_a_team_with_a_recipe_is_not_deleted(daemon):
    assert daemon("POST", "/v1/teams", json={"name": "blue"}).status_code == 201
    made = daemon("POST", "/v1/tokens", json={"name": "b", "role": "member", "team": "blue"}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert daemon("POST", "/v1/recipes", json={"name": "ours", "recipe": OURS}, headers=headers).status_code == 201
    assert daemon("DELETE", f"/v1/tokens/{made['id']}?team=blue").status_code == 204
    answer = daemon("DELETE", "/v1/teams/blue")
    assert answer.status_code == 409 and "the team has recipes" in answer.json()["detail"]
    again = daemon("POST", "/v1/tokens", json={"name": "b", "role": "member", "team": "blue"}).json()
    assert daemon("DELETE", "/v1/recipes/ours", headers={"Authorization": f"Bearer {again['token']}"}).status_code == 204
    assert daemon("DELETE", f"/v1/tokens/{again['id']}?team=blue").status_code == 204
    assert daemon("DELETE", "/v1/teams/blue").status_code == 204


def test_a_team_has_room_for_a_hundred(daemon):
    for n in range(100):
        assert save(daemon, f"r{n}").status_code == 201
    full = save(daemon, "one-more")
    assert (full.status_code, full.json()["code"], full.json()["where"]) == (403, "quota.exceeded", "recipes")
    assert save(daemon, "r7").status_code == 200 and "one-more" not in rows(daemon)
    assert daemon("DELETE", "/v1/recipes/r7").status_code == 204 and save(daemon, "one-more").status_code == 201


def test_of_many_at_once_one_is_saved(daemon):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        same = [a.status_code for a in pool.map(lambda _: save(daemon), range(16))]
        others = [a.status_code for a in pool.map(lambda n: save(daemon, "each", {"preset": "minmax-w8a8", "exclude": [f"*{n}*"]}), range(16))]
    assert sorted(same) == [200] * 15 + [201] and sorted(others) == [201] + [409] * 15


def test_what_a_saved_recipe_gives_is_what_the_recipe_gives(make_daemon):
    d = make_daemon(program=REPQUANT)
    model = d("PUT", "/v1/models?name=digits", data=(DIGITS / "model.onnx").read_bytes()).json()["id"]
    data = d("PUT", "/v1/datasets?name=calib", data=(DIGITS / "calib.npz").read_bytes()).json()["id"]
    save(d, recipe={"preset": "percentile-w8a8", "weights": {"bits": 6}})

    def digest(recipe):
        job = d("POST", "/v1/jobs", json={"type": "quantize", "model_id": model, "dataset_id": data, "recipe": recipe}).json()
        assert d.ended(job["id"], 60)["state"] == "succeeded"
        return next(a["digest"] for a in d("GET", f"/v1/jobs/{job['id']}/artifacts").json()["data"] if a["name"] == "model.onnx")

    assert digest("ours") == digest({"preset": "percentile-w8a8", "weights": {"bits": 6}, "name": "ours"})


@pytest.fixture
def other_version(daemon):
    """A function that restarts the daemon, which then has recipes as another version saved them: {name: change(recipe)}."""
    def restart(changes):
        for name in changes:
            assert save(daemon, f"x-{name}").status_code == 201
        assert daemon.stop() == 0
        with contextlib.closing(sqlite3.connect(daemon.data / "repquant.db")) as db, db:
            for name, change in changes.items():
                (text,) = db.execute("SELECT recipe FROM recipes WHERE name = ?", (f"x-{name}",)).fetchone()
                recipe = json.loads(text)
                change(recipe)
                db.execute("UPDATE recipes SET name = ?, recipe = ? WHERE name = ?", (name, json.dumps({**recipe, "name": name}), f"x-{name}"))
        daemon.start()
        return daemon
    return restart


def test_what_an_older_version_saved_gets_the_fields_that_have_come_since(other_version):
    d = other_version({"older": lambda r: r.pop("compensation")})
    now = {**preset(d), "name": "older", "exclude": ["*head*"]}
    assert d("GET", "/v1/recipes/older").json() == now and d.job("hang", recipe="older")["recipe"] == now
    assert save(d, "older").status_code == save(d, "older", "older").status_code == 200


@pytest.mark.parametrize("value, pointer", [("newer", "/recipe"), ({"preset": "newer", "target": "openvino"}, "/recipe/preset")])
def test_what_this_version_cannot_use_is_told_where_it_is_named(other_version, value, pointer):
    d = other_version({"newer": lambda r: r["weights"].update(bits=9)})
    answer = d("POST", "/v1/jobs", json=d.inputs("hang", recipe=value))
    assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (422, "recipe.field", pointer)
    assert '"newer"' in answer.json()["detail"] and "/weights/bits" in answer.json()["detail"]
    assert d("GET", "/v1/recipes/newer").json()["weights"]["bits"] == 9 and save(d, "newer").status_code == 409
    assert d("DELETE", "/v1/recipes/newer").status_code == 204 and save(d, "newer").status_code == 201


def test_a_preset_of_this_version_comes_before_what_had_its_name_and_that_can_be_deleted(other_version):
    d = other_version({"minmax-w8a8": lambda r: None})
    assert d.job("hang", recipe="minmax-w8a8")["recipe"]["exclude"] == [] == preset(d)["exclude"]
    assert [row["preset"] for row in d("GET", "/v1/recipes").json()["data"] if row["name"] == "minmax-w8a8"] == [True, False]
    assert [d("DELETE", "/v1/recipes/minmax-w8a8").status_code for _ in range(2)] == [204, 409]


def test_the_client_asks_for_the_recipe_that_a_name_stands_for_now(daemon, tmp_path):
    (tmp_path / "model.onnx").write_text("#quantize result model.onnx MODEL\n")
    (tmp_path / "calib.npz").write_text('#inspect result result.json {"format":"npz","samples":4}\n')

    def submit(name):
        ended = subprocess.run([CTL, "submit", tmp_path / "model.onnx", "--calibration", tmp_path / "calib.npz", "--recipe", name, "--label", "a=b"],
                               env={**os.environ, "REPQUANT_URL": daemon.url, "REPQUANT_TOKEN": daemon.token}, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stdout.strip() or ended.stderr

    save(daemon)
    (_, first), (_, again) = submit("ours"), submit("ours")
    assert first == again and daemon("GET", f"/v1/jobs/{first}").json()["recipe"]["exclude"] == ["*head*"]
    daemon("DELETE", "/v1/recipes/ours")
    status, told = submit("ours")
    assert status == 1 and "recipe.unknown" in told
    save(daemon, recipe="repquant-w4a8")
    status, now = submit("ours")
    assert status == 0 and daemon("GET", f"/v1/jobs/{now}").json()["recipe"] == {**preset(daemon, "repquant-w4a8"), "name": "ours"}
