"""The HTML report in a browser: nothing is loaded or complained about, and anybody can read it."""

from __future__ import annotations

import io
import shutil

import pytest
from made_up_reports import every_kind_of_model
from PIL import Image

from pytest_backdoor.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"desk": 1200, "phone": 360}
# A browser in a container without a network must not look for one.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "scan.html"
    write_report(every_kind_of_model(), path)
    return path


@pytest.fixture(
    scope="module", params=[(width, scheme) for width in WIDTHS for scheme in ("light", "dark")], ids="-".join
)
def opened(request, browser, page_file):
    """The page, as it is opened, and what the browser loaded and complained about."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": WIDTHS[width], "height": 800}, color_scheme=scheme, java_script_enabled=False
    )
    page = context.new_page()
    loaded, complaints = [], []
    page.on("request", lambda sent: loaded.append(sent.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    yield page, loaded, complaints, scheme
    context.close()


def test_it_loads_nothing_and_complains_of_nothing(opened, page_file):
    _, loaded, complaints, _ = opened
    assert [url for url in loaded if not url.startswith("data:image/png")] == [page_file.as_uri()]
    assert complaints == []


def test_a_picture_of_it(opened, tmp_path):
    page, *_ = opened
    path = tmp_path / "page.png"
    page.screenshot(path=path, full_page=True)
    with Image.open(path) as image:
        # As wide as the window: nobody has to scroll sideways.
        assert image.width == page.viewport_size["width"]
        assert image.height > 2000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_it_is_dark_where_that_is_wanted(opened):
    page, *_, scheme = opened
    with Image.open(io.BytesIO(page.screenshot())) as image:
        corner = image.convert("L").getpixel((2, 2))
    assert (corner < 60) is (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(browser, page_file, width, scheme):
    # The page forbids scripts, and axe is one.
    context = browser.new_context(
        viewport={"width": WIDTHS[width], "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    found = axe.Axe().run(page).response["violations"]
    context.close()
    assert [(entry["id"], [node["html"] for node in entry["nodes"]][:3]) for entry in found] == []


def test_a_script_would_not_run(browser, tmp_path, page_file):
    source = page_file.read_text(encoding="utf-8")
    path = tmp_path / "hostile.html"
    path.write_text(source.replace("</main>", "<script>document.title = 'owned'</script></main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.title() == "Backdoor scan: suspicious"
    page.close()
