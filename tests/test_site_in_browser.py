"""Every page of the documentation site in a real browser, at the widths of a phone, a tablet and a desk."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "build" / "screenshots" / "site"
WIDTHS = (420, 820, 1280)
TOO_WIDE = """
    return [...document.querySelectorAll('article *')].filter((each) => {
        for (let up = each; up.tagName !== 'ARTICLE'; up = up.parentElement)
            if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(up).overflowX)) return false;
        return each.getBoundingClientRect().right > innerWidth + 1;
    }).map((each) => each.outerHTML.slice(0, 80))
"""
"""Parts of the text that reach beyond the window and are in no box that scrolls."""
STILL = """
    const style = document.createElement('style');
    style.textContent = '* { transition: none !important; animation: none !important }';
    document.head.append(style);
"""
"""What fades out after a change of width would be in the picture."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, list[str]]]:
    """The address of the site, and its pages."""
    subprocess.run([Path(sys.executable).with_name("zensical"), "build"], cwd=ROOT, check=True, capture_output=True)
    pages = sorted(path.relative_to(ROOT / "site").as_posix() for path in (ROOT / "site").rglob("*.html"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(ROOT / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", pages
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_every_page_fits_every_width_without_an_error_and_is_kept_as_a_picture(
    site: tuple[str, list[str]], chrome: Chrome
) -> None:
    address, pages = site
    assert len(pages) > 50
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    chrome.get_log("browser")
    faults = []
    for page in pages:
        chrome.get(f"{address}/{page}")
        chrome.execute_script(STILL)
        for width in WIDTHS:
            size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
            chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            chrome.save_screenshot(str(SCREENSHOTS / f"{page.removesuffix('.html').replace('/', '-')}-{width}.png"))
            wide = chrome.execute_script("return document.documentElement.scrollWidth")
            if wide > width:
                faults.append(f"{page} is {wide} wide in a window of {width}")
            faults += [f"{page} at {width}: {each}" for each in chrome.execute_script(TOO_WIDE)]
        faults += [f"{page}: {each['message']}" for each in chrome.get_log("browser") if each["level"] != "INFO"]
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert faults == []
