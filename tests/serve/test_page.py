"""The demo page in a real browser, before a real service: the distribution's headless Chromium."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from live import Live, running, write_bundle
from small_shop import fitted

from mkmsr.bundle.model_bundle import new_bundle, save_bundle
from mkmsr.data.prepare import prepare
from mkmsr.data.shop import SimulateOptions
from mkmsr.data.simulate import simulate
from mkmsr.serve.settings import Settings

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PAGE = Path(__file__).parents[2] / "src" / "mkmsr" / "serve" / "page"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SECONDS = 60


def test_the_page_runs_under_a_strict_policy_and_never_reads_markup(live: Live) -> None:
    answer = live.call("GET", "/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for file in re.findall(r'(?:href|src)="(/page/[^"]+)"', answer.text):
        assert live.call("GET", file).status == 200
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son\w+=", answer.text)
    for script in PAGE.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)


def test_every_field_has_a_label_and_news_are_announced(live: Live) -> None:
    page = live.call("GET", "/").text
    fields = re.findall(r"<(?:input|select)\b", page)
    labelled = re.findall(r"<label[^>]*>(?:(?!</label>).)*<(?:input|select)\b", page, flags=re.DOTALL)
    assert len(fields) == len(labelled) > 5
    assert 'role="status" aria-live="polite"' in page


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service of a small simulated shop, two models side by side."""
    dataset = prepare(simulate(SimulateOptions(sessions=400, items=90)).to_log(), name="simulated shop")
    folder = tmp_path_factory.mktemp("shop")
    for name in ("compass", "v-sknn"):
        config, model = fitted(name, dataset)
        save_bundle(folder / name, new_bundle(model, name=name, config=config, dataset=dataset))
    with running(Settings(bundle=folder / "compass", beside=folder / "v-sknn")) as service:
        yield service


class Visitor:
    """Somebody before the page."""

    def __init__(self, chrome: Chrome, live: Live):
        self.chrome = chrome
        chrome.get_log("browser")
        chrome.get(f"http://127.0.0.1:{live.port}/")
        self.until(lambda: self.all("#recommendations .card"))

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        return self.chrome.find_element("css selector", selector)

    def items(self, place: str = "#recommendations") -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.dataset.item)"
        found: list[str] = self.chrome.execute_script(script, f"{place} .card")
        return found

    def until(self, holds: Callable[[], Any]) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        ignored = [StaleElementReferenceException]
        return WebDriverWait(self.chrome, SECONDS, ignored_exceptions=ignored).until(lambda _: holds())

    def press(self, selector: str) -> None:
        self.chrome.execute_script("arguments[0].click()", self.one(selector))

    def news(self, step: Callable[[], None]) -> None:
        """Do something, and wait until the list that it leads to is there."""
        asked = self.one("#curl").get_attribute("textContent")
        self.chrome.execute_script("document.getElementById('latency').textContent = ''")
        step()
        self.until(lambda: self.one("#latency").text and self.one("#curl").get_attribute("textContent") != asked)

    def act(self, operation: str, place: str = "#products", number: int = 1) -> str:
        selector = f"{place} .card:nth-child({number})"
        item = str(self.one(selector).get_attribute("data-item"))
        self.news(lambda: self.press(f'{selector} button[data-operation="{operation}"]'))
        return item

    def problems(self) -> list[str]:
        return [each["message"] for each in self.chrome.get_log("browser") if each["level"] != "INFO"]


@pytest.fixture
def visitor(chrome: Chrome, shop: Live) -> Visitor:
    return Visitor(chrome, shop)


class TestInChromium:
    pytestmark = pytest.mark.slow

    def test_a_visit_moves_the_list_and_taking_a_step_back_moves_it_back(self, visitor: Visitor) -> None:
        visitor.act("click")
        first = visitor.items()
        visitor.act("cart", number=5)
        assert visitor.items() != first
        assert len(visitor.all("#events li")) == 2
        assert visitor.all("#recommendations .move")
        visitor.news(lambda: visitor.press("#events li:last-child button"))
        assert visitor.items() == first
        assert len(visitor.all("#events li")) == 1
        assert visitor.problems() == []

    def test_every_item_of_the_list_says_why_in_bars_and_in_names(self, visitor: Visitor) -> None:
        visitor.act("click")
        assert visitor.all("#recommendations .bar") != []
        for each in visitor.all("#recommendations .why")[:5]:
            assert re.search(r"\d+ %", str(each.find_element("css selector", ".bar").get_attribute("aria-label")))
            sentence = each.find_element("css selector", "p").text
            assert sentence
            assert "item-" not in sentence
        assert visitor.one("#news").get_attribute("textContent").startswith("New list. First: ")

    def test_what_was_seen_or_bought_is_hidden_on_request(self, visitor: Visitor) -> None:
        seen, bought = visitor.act("click"), visitor.act("order", number=2)
        assert {seen, bought} <= set(visitor.items())
        visitor.news(lambda: visitor.press("#hide-bought"))
        assert bought not in visitor.items()
        assert seen in visitor.items()
        visitor.news(lambda: visitor.press("#hide-seen"))
        assert not {seen, bought} & set(visitor.items())

    def test_a_filter_holds_in_the_shop_and_in_the_list(self, visitor: Visitor) -> None:
        value = visitor.one("#value")
        visitor.chrome.execute_script("document.getElementById('relation').value = 'category'")
        value.send_keys("Chargers")
        visitor.press("#search button")
        visitor.until(lambda: all("Chargers" in each.text for each in visitor.all("#products .text")))
        visitor.news(lambda: visitor.press("#filter-list"))
        assert all("Chargers" in each.text for each in visitor.all("#recommendations .text"))

    def test_a_product_put_on_sale_is_found_and_listed_at_once(self, visitor: Visitor) -> None:
        visitor.act("click")
        name = visitor.one("#new-name")
        name.clear()
        name.send_keys("<b>Newest</b> thing")
        visitor.press("#new-item button")
        told = visitor.until(lambda: visitor.one("#new-place").text)
        assert re.search(r"<b>Newest</b> thing is on sale\. It is number \d+ of your list already\.", told)
        visitor.one("#words").send_keys("newest")
        visitor.press("#search button")
        visitor.until(lambda: [each.text for each in visitor.all("#products .name")] == ["<b>Newest</b> thing"])
        assert not visitor.all("#products b")

    def test_a_picture_that_does_not_load_gives_way_to_a_letter(self, visitor: Visitor, shop: Live) -> None:
        item = {
            "item": "zebra",
            "attributes": {"category": "Phones"},
            "display": {"name": "Zebra", "image": "/page/no.png"},
        }
        assert shop.call("POST", "/v1/catalogue/items", {"items": [item]}).status == 200
        visitor.one("#words").send_keys("zebra")
        visitor.press("#search button")
        visitor.until(lambda: [each.text for each in visitor.all("#products .letter")] == ["Z"])
        assert not visitor.all("#products img")

    def test_an_operation_without_a_label_reads_as_words(self, visitor: Visitor) -> None:
        script = "return (await import('/page/elements.js')).operationLabel('add_to_basket')"
        assert visitor.chrome.execute_script(script) == "Add to basket"

    def test_what_the_service_refuses_is_told_and_forgotten_after_the_next_step(self, visitor: Visitor) -> None:
        visitor.chrome.execute_script("document.getElementById('relation').append(new Option('no-such'))")
        visitor.chrome.execute_script("document.getElementById('relation').value = 'no-such'")
        visitor.one("#value").send_keys("x")
        visitor.press("#search button")
        assert "no-such" in visitor.until(lambda: visitor.one("#problem").text)
        visitor.act("click")
        visitor.until(lambda: not visitor.one("#problem").is_displayed())

    def test_a_second_model_stands_beside(self, visitor: Visitor) -> None:
        visitor.act("click")
        visitor.until(lambda: visitor.items("#second-list"))
        assert re.match(r"v-sknn: \d+ of \d+ products are in both lists", visitor.one("#second-note").text)

    def test_the_command_gives_the_list_that_is_shown(self, visitor: Visitor, shop: Live) -> None:
        visitor.news(lambda: visitor.press("#consent"))
        visitor.act("click")
        assert re.fullmatch(r"compass answered in \d+ ms \(median \d+ ms\)", visitor.one("#latency").text)
        words = shlex.split(str(visitor.one("#curl").get_attribute("textContent")))
        assert words[:3] == ["curl", "-s", f"http://127.0.0.1:{shop.port}/v1/recommendations"]
        assert shop.call("POST", "/v1/recommendations", json.loads(words[-1])).items == visitor.items()

    def test_choices_from_the_list_are_counted(self, visitor: Visitor, shop: Live) -> None:
        def clicks() -> int:
            return int(shop.call("GET", "/v1/service").json["live"]["compass"]["clicks"])

        before = clicks()
        visitor.act("click")
        visitor.act("cart", place="#recommendations", number=2)
        assert clicks() == before + 1
        visitor.until(lambda: "chosen at place 2" in visitor.one("#live").text)

    def test_scripts_in_names_and_ids_stay_text(self, visitor: Visitor, shop: Live) -> None:
        hostile = "<img src=x onerror=document.title='owned'>"
        item = {
            "item": hostile,
            "attributes": {"category": "Phones"},
            "display": {"name": hostile, "link": "javascript:1"},
        }
        assert shop.call("POST", "/v1/catalogue/items", {"items": [item]}).status == 200
        visitor.one("#words").send_keys("onerror")
        visitor.press("#search button")
        visitor.until(lambda: [each.text for each in visitor.all("#products .name")] == [hostile])
        visitor.act("click")
        assert hostile in visitor.one("#events").text
        assert visitor.chrome.title == "Be the visitor"
        assert not visitor.all("img[src=x]")

    def test_it_can_be_used_with_the_keyboard_alone(self, visitor: Visitor) -> None:
        from selenium.webdriver import ActionChains, Keys

        def focused() -> str:
            script = "const each = document.activeElement; return each.getAttribute('aria-label') ?? each.textContent"
            return str(visitor.chrome.execute_script(script))

        def tab() -> str:
            ActionChains(visitor.chrome).send_keys(Keys.TAB).perform()
            return focused()

        assert tab() == "Skip to the recommendations"
        assert any(tab().startswith("Look: ") for _ in range(20))
        visitor.news(lambda: ActionChains(visitor.chrome).send_keys(Keys.ENTER).perform())
        assert len(visitor.all("#events li")) == 1
        pressed = visitor.one("#recommendations .card:nth-child(2) button")
        name = pressed.get_attribute("aria-label")
        pressed.send_keys("")
        visitor.news(lambda: pressed.send_keys(Keys.ENTER))
        assert focused() == name
        nameless = """return [...document.querySelectorAll('button, input, select')].filter((each) =>
            !(each.labels?.length || each.textContent.trim() || each.ariaLabel)).map((each) => each.outerHTML)"""
        assert visitor.chrome.execute_script(nameless) == []

    @pytest.mark.parametrize("width", [420, 820, 1280])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_every_width_and_is_kept_as_a_picture(self, visitor: Visitor, width: int, scheme: str) -> None:
        chrome = visitor.chrome
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        size = {"width": width, "height": 1100, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            visitor.act("click")
            visitor.act("cart", place="#recommendations", number=3)
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            chrome.execute_script("scrollTo(0, 0)")
            chrome.save_screenshot(str(SCREENSHOTS / f"page-{width}-{scheme}.png"))
        finally:
            chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def test_visits_of_others_are_shown_for_simulated_data_alone(
        self, visitor: Visitor, chrome: Chrome, tmp_path: Path
    ) -> None:
        def reasons(each: Visitor) -> str:
            each.act("click")
            each.act("click", number=2)
            each.news(lambda: each.press("#hide-seen"))
            for summary in each.all("#recommendations summary"):
                chrome.execute_script("arguments[0].click()", summary)
            each.until(lambda: len(each.all(".exact ul")) == len(each.all(".exact")))
            return " ".join(str(found.get_attribute("textContent")) for found in each.all(".exact ul"))

        assert "a simulated visitor looked at" in reasons(visitor)
        with running(Settings(bundle=write_bundle(tmp_path / "real"))) as real:
            elsewhere = Visitor(chrome, real)
            assert not elsewhere.one("#consent").is_selected()
            assert "visitor looked at" not in reasons(elsewhere)
