"""Webhooks as an administrator has them: made, tried, looked into, sent once more."""
import importlib.util
import json
import sys

import conftest
import pytest
from conftest import HOSTILE, ROOT, start
from playwright.sync_api import expect


def load_receiver():
    """tests/api/receiver.py, whose conftest is the other suite's."""
    spec = importlib.util.spec_from_file_location("receiver", ROOT / "tests" / "api" / "receiver.py")
    module, ours = importlib.util.module_from_spec(spec), sys.modules["conftest"]
    sys.modules["conftest"] = conftest.api
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules["conftest"] = ours
    return module


receiver = load_receiver()


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    receiver.certificate(folder)
    r = receiver.Receiver(folder)
    r.folder = folder
    yield r
    r.end()


@pytest.fixture(scope="module")
def hooked(tmp_path_factory, fake_job, listener):
    """A daemon whose webhooks may go to this machine."""
    more = {"outbound-private": "127.0.0.1/32,::1", "outbound-ca": str(listener.folder / "cert"), "webhook-retries": "3600", "webhook-timeout": "5"}
    d = start(tmp_path_factory, fake_job, **more)
    yield d
    assert d.stop() == 0


def test_a_webhook_is_made_tried_and_redelivered(hooked, listener, browse, accessible, shot):
    page = browse(hooked, "/#/admin")
    path = "/page/500,200"         # it fails first, and then takes what comes
    page.get_by_label("URL").fill(listener.url + path)
    page.get_by_label("Called").fill(HOSTILE)
    page.get_by_role("button", name="Make a webhook").click()
    expect(page.get_by_text("whsec_")).to_be_visible()
    hooks = page.get_by_role("table", name="Webhooks")
    expect(hooks.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.get_by_role("button", name=f"Ping {HOSTILE}").click()
    first, = listener.got(path)
    accessible(page)
    shot(page, "admin-webhooks")
    hooks.get_by_role("link", name=HOSTILE).click()
    deliveries = page.get_by_role("table", name="Deliveries")
    row = deliveries.get_by_role("row").filter(has_text="ping")
    expect(row).to_contain_text("pending1")      # one attempt, the next in an hour
    row.get_by_role("button", name="Redeliver").click()
    expect(row).to_contain_text("delivered")
    again = listener.got(path, 2)[1]
    assert again.headers["webhook-id"] == first.headers["webhook-id"] and json.loads(again.body) == json.loads(first.body)
    row.get_by_role("link").first.click()
    attempts = page.get_by_role("table", name="Attempts")
    expect(attempts.get_by_role("row")).to_have_count(3)
    expect(attempts).to_contain_text("500")
    expect(attempts).to_contain_text("<script>")        # of the answer's body: as text
    accessible(page)
    shot(page, "webhook")
    page.get_by_role("link", name="Failed").click()
    expect(page.get_by_text("No deliveries here.")).to_be_visible()
    page.get_by_role("link", name="Administration").last.click()
    page.get_by_role("button", name=f"Disable {HOSTILE}").click()
    expect(hooks).to_contain_text("disabled")
    page.get_by_role("button", name=f"Delete {HOSTILE}").click()
    page.get_by_role("button", name=f"Really delete? {HOSTILE}").click()
    expect(page.get_by_text("There are no webhooks.")).to_be_visible()
    assert hooked("GET", "/v1/webhooks").json()["data"] == []
