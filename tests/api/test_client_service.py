"""repquantctl and what it asks: whom it trusts, how long it waits, what it makes of answers that are none, and what it repeats."""
import pytest
from desk import desk, liar, proxy  # noqa: F401  (fixtures)
from receiver import certificate, system_trusts, tls
from support import digest_of

JOBS = {"GET /v1/jobs": [(200, {}, {"data": []})]}


# ---- whom it trusts ----

@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two authorities, each of its own folder."""
    made = [tmp_path_factory.mktemp("tls") for _ in range(2)]
    for folder in made:
        certificate(folder)
    return made


def test_an_authority_of_ones_own_is_trusted_instead_of_the_systems(desk, liar, folders, tmp_path):
    ours, theirs = folders
    system = system_trusts(tmp_path, theirs / "cert")
    desk.url = liar(JOBS, tls(theirs)).url
    desk.run("status", **system)                    # the system's are what is trusted without the option
    text = desk.run("status", "--ca", ours / "cert", status=3, **system)
    assert "[client.network]" in text and "certificate" in text
    desk.url = liar(JOBS, tls(ours)).url
    desk.run("status", "--ca", ours / "cert", **system)


# ---- what it makes of answers ----

def submission(desk):
    """The words of a submit whose model is there already, and the answer that says so."""
    digest = digest_of((desk.folder / desk.write("m.onnx", "M")).read_bytes())
    return ["submit", "m.onnx", "--recipe", "minmax-w8a8"], {"GET /v1/models": [(200, {}, {"data": [{"id": "mdl_1", "name": "m.onnx", "digest": digest}]})]}


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", {"id": 7}, {"id": "job_../../x"}, {"id": "mdl_01"}, {"state": "queued"}])
@pytest.mark.parametrize("wait", [(), ("--wait",)])
def test_what_tells_no_job_is_no_success(desk, liar, body, wait):
    words, answers = submission(desk)
    desk.url = liar({**answers, "POST /v1/jobs": [(202, {}, body)]}).url
    assert desk.json(*words, *wait, status=3)["code"] == "client.answer"
