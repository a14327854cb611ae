"""What is registered, and what RepQuant did to norms and attention."""
import csv
import json

import pytest
from conftest import HOSTILE, chart
from playwright.sync_api import expect


def data_of(page, name, kind):
    """The numbers behind a plot or table, as its link gives them."""
    with page.expect_download() as download:
        page.get_by_role("link", name=f"{name} as {kind}").click()
    text = download.value.path().read_text()
    return json.loads(text) if kind == "JSON" else list(csv.DictReader(text.splitlines()))


def test_a_model_page_tells_what_is_inside_and_what_each_method_quantizes(daemon, jobs, browse, accessible, shot):
    page = browse(daemon)
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("table", name="Models")).to_be_visible()
    accessible(page)
    page.get_by_role("table", name="Models").get_by_role("link", name=HOSTILE).first.click()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    inventory = daemon("GET", f"/v1/models/{jobs[0]['request']['model_id']}").json()["inventory"]
    expect(page.get_by_role("table", name="Inputs")).to_contain_text(inventory["inputs"][0]["name"])
    row = page.get_by_role("table", name="Operators").get_by_role("row").filter(has_text="Softmax")
    expect(row).to_contain_text("float")
    told = {r["operator"]: r for r in data_of(page, "operators", "CSV")}
    assert int(told["MatMul"]["repquant"]) + int(told["Conv"]["repquant"]) + int(told.get("Gemm", {"repquant": 0})["repquant"]) == len(inventory["layers"])
    blocks = {r["block"]: r["bytes"] for r in data_of(page, "bytes-per-block", "JSON")}
    assert blocks["blocks.0"] == 4 * sum(r.get("params", 0) for r in inventory["layers"] if r["block"] == "blocks.0")
    assert sum(blocks.values()) == 4 * inventory["parameters"]
    page.get_by_text("layers that can be quantized").last.click()
    expect(page.get_by_role("table", name="Layers").get_by_text(HOSTILE).first).to_be_visible()
    expect(page.get_by_role("table", name="Jobs").get_by_role("link", name=jobs[0]["id"])).to_be_visible()
    accessible(page)
    shot(page, "model")


def test_a_data_set_page_tells_schema_ranges_and_whether_it_fits(daemon, jobs, browse, accessible, shot):
    page = browse(daemon)
    page.get_by_role("link", name="Data sets").click()
    expect(page.get_by_role("table", name="Data sets")).to_be_visible()
    accessible(page)
    page.get_by_role("table", name="Data sets").get_by_role("link", name="calib").first.click()
    array = daemon("GET", f"/v1/datasets/{jobs[0]['request']['dataset_id']}").json()["inventory"]["arrays"][0]
    expect(page.get_by_role("table", name="Arrays").get_by_role("row").nth(1)).to_contain_text(str(array["shape"]))
    told = data_of(page, "arrays", "JSON")[0]
    assert [told["min"], told["max"], told["mean"]] == [array["min"], array["max"], array["mean"]]
    page.get_by_label("Model").select_option(jobs[0]["request"]["model_id"])
    expect(page.get_by_text("The data fit the model.")).to_be_visible()
    accessible(page)
    shot(page, "dataset")
    page.reload()
    expect(page.get_by_text("The data fit the model.")).to_be_visible()     # the choice is in the address


def test_pictures_are_shown_and_their_names_are_text(daemon, pictures, browse, accessible, shot):
    page = browse(daemon, f"/#/datasets/{pictures}")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(page.get_by_text(HOSTILE.replace("/", "") + ".png")).to_be_visible()
    assert page.evaluate("[...document.querySelectorAll('figure img')].map((i) => i.complete && i.naturalWidth)") == [8, 8]
    accessible(page)
    shot(page, "dataset-pictures")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_norms_before_and_after_and_codes_of_each_head(daemon, jobs, browse, accessible, shot, scheme):
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}", color_scheme=scheme)
    page.get_by_role("link", name="Norms and attention").click()
    rows = {r["name"]: r for r in daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]}
    norms = page.get_by_role("table", name="Norms")
    expect(norms.get_by_role("row")).to_have_count(9)
    for told in data_of(page, "norms", "CSV"):
        assert float(told["widest_to_median_after"]) == rows[told["layer"]]["channel_range_ratio_after"] <= float(told["widest_to_median_before"]) * 1.5
    expect(page.get_by_role("img", name="Channels behind blocks.0.norm1")).to_be_visible()
    section = page.get_by_role("region", name="blocks.0.attn.pv", exact=True)
    section.scroll_into_view_if_needed()
    expect(section.get_by_role("img", name="log_sqrt2 codes, head")).to_have_count(4)
    product = rows["blocks.0.attn.pv"]
    told = data_of(page, f"{jobs[0]['id']}-heads-{product['index']}", "JSON")
    codes = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers/{product['index']}/details").json()["activation"]["heads"]["codes"]
    assert [[h[f"code_{i}"] for i in range(16)] for h in told] == codes
    assert chart(section.page, f"{product['name']}: log_sqrt2 codes, head 2", "c.data.datasets[0].data") == codes[2]
    share = 100 * codes[2][15] / sum(codes[2])
    expect(section.get_by_role("table").get_by_role("row").nth(3)).to_contain_text(f"{share:.2f}".rstrip("0").rstrip("."))
    accessible(page)
    shot(page, f"repquant-{scheme}")
