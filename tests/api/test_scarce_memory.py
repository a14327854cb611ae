"""Memory is refused at each allocation in turn: what is told or kept is whole, or there is a word that there was no memory.

jansson leaves out a key or a character that it got no memory for, and nobody looks at each field that is set: see core/base/json.h.
"""
import itertools
import json
import subprocess

import pytest
from conftest import ROOT
from support import SANITIZED
from test_faults import Board, World, library, points  # noqa: F401  (a fixture)

pytestmark = pytest.mark.skipif(SANITIZED, reason="sanitizers have an allocator of their own")

WRITER = """
#include "core/base/json.h"
#include <string.h>
#include <unistd.h>
int main(void)
{
    static const char *const names[] = { "the first key of some length", "the second key, which makes the text grow", "the third, which does so, too" };
    json_t *value = json_object();
    for (int i = 0; i < 3; i++)
        if (json_object_set_new(value, names[i], json_pack("{s:i, s:[b, b]}", names[2 - i], i, names[i], 1, 0)) != 0)
            return 1;
    char *text = json_text(value, JSON_COMPACT | FLAGS);
    json_t *back = text ? json_read(text, 0) : NULL;
    if (!back)
        return 1;
    return json_equal(value, back) && write(1, text, strlen(text)) > 0 ? 0 : 2;
}
"""


@pytest.mark.parametrize("flags", ["0", "JSON_SORT_KEYS"])
def test_a_text_is_written_and_read_whole_or_not_at_all(tmp_path, library, flags):
    source, program = tmp_path / "writer.c", tmp_path / "writer"
    source.write_text(WRITER)
    ours = [str(ROOT / f"core/base/{name}.c") for name in ("json", "err", "utf8")]
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O0", f"-DFLAGS={flags}", f"-I{ROOT}", source, *ours, "-o", program, "-ljansson", "-lm"], check=True)
    board, told = Board(tmp_path / "board"), []
    whole = subprocess.run([program], check=True, capture_output=True).stdout
    for at in itertools.count(1):
        board.arm("memory", at, False)
        run = subprocess.run([program], capture_output=True, env={"LD_PRELOAD": str(library), "NTH_FILE": str(tmp_path / "board")})
        if not board.get(4):
            break
        told.append((run.returncode, run.stdout))
    assert len(json.loads(whole)) == 3 and len(told) > 10
    assert set(told) == {(1, b"")}


def shape(value):
    """Its keys and how many there are of each, without what is another each time."""
    if isinstance(value, dict):
        return {key: shape(v) for key, v in value.items()}
    return [shape(v) for v in value] if isinstance(value, list) else type(value).__name__


def same(answer, whole):
    """An answer like that of a daemon with memory, or one that says that it has none; connections may end."""
    if answer is None or answer.status_code >= 500:
        return True
    try:
        return answer.status_code == whole.status_code and shape(answer.json()) == shape(whole.json())
    except ValueError:
        return False


def post(w, n):
    return w.ask("POST", "/v1/jobs", json=w.body, headers={"Idempotency-Key": f"post {n}"})


def save(w, name):
    return w.ask("POST", "/v1/recipes", json={"name": name, "recipe": {"preset": "minmax-w8a8", "exclude": ["*head*"]}})


def saved_and(method, path, **more):
    """A request behind one that saves a recipe, with memory if that is the first."""
    def ask(w, n):
        if n < 0:
            assert save(w, "ours").status_code in (200, 201)
        return w.ask(method, path, **({"json": {**w.body, **more}} if more else {}))
    return ask


ASKED = {
    "a recipe": saved_and("GET", "/v1/recipes/ours"),
    "the recipes": saved_and("GET", "/v1/recipes"),
    "a recipe that is named": saved_and("POST", "/v1/jobs?dry_run=true", recipe={"preset": "ours", "target": "openvino"}),
    "a recipe that is saved again": lambda w, n: save(w, "again"),

    "a job": lambda w, n: w.ask("GET", f"/v1/jobs/{w.done}"),
    "a list": lambda w, n: w.ask("GET", "/v1/models"),
    "a model": lambda w, n: w.ask("GET", f"/v1/models/{w.model}"),
    "a dry run": lambda w, n: w.ask("POST", "/v1/jobs?dry_run=true", json=w.body),
    "a job that is made": post,
}


@pytest.mark.parametrize("what", ASKED)
def test_an_answer_is_whole_or_says_that_there_was_no_memory(tmp_path, fake_job, library, monkeypatch, what):
    w = World(tmp_path, fake_job, library, monkeypatch)
    try:
        for n in (-2, -1):          # the first time warms caches
            w.put_blob(w.bytes())
            w.daemon.session.close()
            w.board.reset()
            whole = ASKED[what](w, n)
            count = w.board.counts()["memory"]
        wrong, refused = [], 0
        for at in points(count, 150):
            w.put_blob(w.bytes())       # a commit: nothing is answered from what was read before
            w.daemon.session.close()
            w.board.arm("memory", at, False)
            answer = ASKED[what](w, at)
            refused += w.board.get(4) > 0 and (answer is None or answer.status_code >= 500)
            w.settle()                  # where the storage had no memory it may have stopped
            again = ASKED[what](w, at)  # what was kept of the answer: until something is committed, or for a key
            wrong += [(at, a and a.text) for a in (answer, again) if not same(a, whole)]
        assert not wrong, wrong
        assert refused > 20
    finally:
        w.board.reset()
        w.daemon.stop()
