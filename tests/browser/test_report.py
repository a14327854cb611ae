"""The report as one page: kept, and opened where there is no network."""
import pytest
from conftest import HOSTILE, READABLE, Watch, chart, smallest_print
from playwright.sync_api import expect


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 320)])
def test_the_report_is_read_without_a_network(daemon, jobs, chromium, browse, accessible, shot, tmp_path, scheme, width):
    page = browse(daemon, f"/#/jobs/{jobs[0]['id']}")
    with page.expect_download() as download:
        page.get_by_role("link", name="The report as one page").click()
    kept = tmp_path / "report.html"
    download.value.save_as(kept)
    layers = daemon("GET", f"/v1/jobs/{jobs[0]['id']}/layers").json()["data"]
    context = chromium.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 800})
    try:
        report = context.new_page()
        watch = Watch(report, "file://")
        report.goto(kept.as_uri())
        expect(report.get_by_role("heading", level=1)).to_be_visible()
        expect(report.get_by_role("cell", name=HOSTILE).first).to_be_visible()
        depth = chart(report, "Error over depth", "c.data.datasets.map((set) => set.data.map((point) => point.y))")
        assert depth == [[l[f"{kind}_sqnr_db"] for l in layers] for kind in ("isolated", "accumulated")]
        expect(report.get_by_role("region", name="Layers").locator("tbody tr")).to_have_count(len(layers))
        for title in ("Error over depth", "Worst first", "Largest layers"):
            assert chart(report, title, "c.data.datasets.length") > 0
        assert report.locator("img, [onerror], [src]").count() == 0 and report.locator("script").count() == 3
        assert report.evaluate("document.documentElement.scrollWidth") <= width
        assert smallest_print(report) >= READABLE
        accessible(report)
        shot(report, f"report-{scheme}-{width}")
        assert watch.seen == []
    finally:
        context.close()
