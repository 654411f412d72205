"""The page in a browser, served by the command.

``RELKT_SCREENSHOT=docs/serve.png pytest tests/python/app/test_browser.py -k screenshot`` takes the screenshot for the
documentation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)
pytest.importorskip("selenium", reason="selenium is not installed: pip install 'relkt[test]'")

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="Chromium and its driver are not installed: apt install chromium-driver",
    ),
]

TOKEN = "a-token-that-is-long-enough"
PATIENCE = 120
"""Timeout in seconds, generous for a busy machine."""
DESKTOP, PHONE = (1000, 860), (360, 740)
WHY_ICE_FLOATS = "ทำไมน้ำแข็งลอยน้ำ"
EXAMPLES = [WHY_ICE_FLOATS, "¿Cómo hacen miel las abejas?", "أين يصب نهر النيل؟"]


class Browser:
    """A browser with the page."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def resize(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, size: tuple[int, int] = DESKTOP) -> None:
        self.resize(size)
        self.driver.get(self.url)
        self.wait(lambda: self.all("#relkt-question textarea") and self.focused.tag_name == "textarea")

    def wait(self, condition: Any) -> Any:
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        self.focused.send_keys(*keys)

    def ask(self, question: str) -> None:
        """Types into the focused element, and presses Enter."""
        self.press(question, Keys.ENTER)
        self.wait_for_sentences()

    def wait_for_sentences(self) -> None:
        self.wait(lambda: re.search(r"best sentences [\d.,]+ ms", self.status))

    @property
    def status(self) -> str:
        return str(self.run("return document.querySelector('#relkt-status')?.innerText ?? ''"))

    @property
    def titles(self) -> list[str]:
        return [element.text for element in self.all(".relkt-results h2")]

    def fits(self) -> bool:
        """True if the page fits the width of the screen."""
        return bool(self.run("return document.documentElement.scrollWidth <= window.innerWidth"))

    def tab_to(self, script: str) -> None:
        """Presses Tab until the focused element matches a condition."""
        for _ in range(60):
            self.press(Keys.TAB)
            if self.run(f"const e = document.activeElement; return {script}"):
                return
        pytest.fail(f"the keyboard reaches no element with {script}")

    def requests(self) -> set[str]:
        """Hosts of the requests since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in urls if not url.startswith(("data:", "blob:"))}

    def problems(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--lang=en",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
        # No other machine can be reached: everything comes from the server.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


def serve(*arguments: str | Path, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """The process of the server, and its address."""
    command = [sys.executable, "-m", "relkt", "serve", *map(str, arguments), "--port", "0"]
    server = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1", **environment}
    )
    assert server.stderr is not None
    output = ""
    for line in server.stderr:
        output += line
        if found := re.search(r"on (http://127\.0\.0\.1:\d+) ", line):
            return server, found[1] + "/"
    server.wait(10)
    raise AssertionError(f"relkt serve ended with {server.returncode}: {output}")


def stop(server: subprocess.Popen[str]) -> None:
    """Stops a server as Ctrl-C does, while the page is open; the exit code is 0."""
    server.send_signal(signal.SIGINT)
    _, output = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def url(index_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run = tmp_path_factory.mktemp("run")
    (run / "results.md").write_text(
        f"P@1\n\n| model | {' | '.join('x' * 40)} |\n|---|{'---:|' * 40}\n| before | {' | '.join(['0.750'] * 40)} |\n"
    )
    examples = [argument for example in EXAMPLES for argument in ("--example", example)]
    server, url = serve(index_path, "--run", run, *examples)
    yield url
    stop(server)


@pytest.fixture
def browser(driver: webdriver.Chrome, url: str) -> Browser:
    driver.delete_all_cookies()
    browser = Browser(driver, url)
    browser.requests()
    browser.problems()
    return browser


def test_a_question_in_thai_finds_its_passage(browser: Browser) -> None:
    browser.open()
    browser.ask(WHY_ICE_FLOATS)
    assert browser.titles[0] == "Why ice floats"
    assert len(browser.titles) == 5
    assert browser.all("mark")[0].text.startswith("Water expands, because")
    assert "Thai" in browser.status
    assert re.search(r"5 of 12 passages\s+encoding [\d.,]+ ms\s+search [\d.,]+ ms", browser.status)
    first = browser.all(".relkt-results article")[0].text
    assert re.search(r"score 0\.\d{3}", first)
    assert "water" in first
    assert browser.requests() == {urlsplit(browser.url).netloc}
    assert browser.problems() == []


def test_arabic_is_laid_out_right_to_left(browser: Browser) -> None:
    browser.open(PHONE)
    browser.ask("أين يصب نهر النيل؟")
    assert browser.titles[0] == "نهر النيل"
    texts = browser.all(".relkt-text")
    assert [text.value_of_css_property("direction") for text in texts[:2]] == ["rtl", "ltr"]
    assert texts[0].get_attribute("lang") == "ar"
    box = browser.all("#relkt-question textarea")[0]
    assert box.value_of_css_property("direction") == "rtl"
    # Lines are aligned to the right.
    right = "const range = document.createRange(); range.selectNodeContents(arguments[0]);"
    right += "return arguments[0].getBoundingClientRect().right - range.getClientRects()[0].right"
    assert abs(browser.run(right, texts[0])) < 2


def test_a_phone_needs_no_horizontal_scrolling(browser: Browser) -> None:
    browser.open(PHONE)
    assert browser.fits()
    browser.run("[...document.querySelectorAll('button')].find(b => b.innerText.includes('Options')).click()")
    browser.wait(lambda: any(element.is_displayed() for element in browser.all(".relkt-filters input")))
    assert browser.fits()
    browser.all("#relkt-question textarea")[0].send_keys("x" * 300, Keys.ENTER)
    browser.wait_for_sentences()
    assert browser.fits()
    browser.run("document.querySelectorAll('[role=tab]')[1].click()")
    browser.wait(lambda: any(table.is_displayed() for table in browser.all(".relkt-table")))
    assert browser.fits()
    assert browser.run("const t = document.querySelector('.relkt-table'); return t.scrollWidth > t.clientWidth")


def test_the_keyboard_is_enough(browser: Browser) -> None:
    browser.open()
    browser.ask("Wie entsteht Honig?")
    assert "German" in browser.status
    # The focus is always visible.
    for _ in range(4):
        browser.press(Keys.TAB)
        assert browser.focused.value_of_css_property("outline-style") == "solid"
        assert float(browser.focused.value_of_css_property("outline-width").removesuffix("px")) >= 2

    browser.open()
    browser.tab_to("e.innerText.includes('Options')")
    browser.press(Keys.ENTER)
    browser.tab_to("e.matches('.relkt-filters input') && e.ariaLabel?.includes('language')")
    browser.press(Keys.ARROW_DOWN)
    options = "return [...document.querySelectorAll('[role=option]')].map(option => option.innerText).join()"
    browser.wait(lambda: "Arabic (2)" in browser.run(options) and "English (8)" in browser.run(options))
    browser.press("Arabic")
    browser.wait(lambda: "Arabic (2)" in browser.run(options) and "English (8)" not in browser.run(options))
    browser.press(Keys.ENTER)
    browser.press(Keys.ESCAPE)
    browser.run("document.querySelector('#relkt-question textarea').focus()")
    browser.ask("coffee")
    assert sorted(browser.titles) == sorted(["القهوة", "نهر النيل"])

    browser.open()
    browser.tab_to(f"e.innerText === {json.dumps(EXAMPLES[1])}")
    browser.press(Keys.ENTER)
    browser.wait_for_sentences()
    assert "Spanish" in browser.status
    assert browser.all("#relkt-question textarea")[0].get_attribute("value") == EXAMPLES[1]


def test_everything_has_a_name(browser: Browser) -> None:
    browser.open()
    browser.ask("ice")
    unnamed = """return [...document.querySelectorAll('button, input, textarea, a, [role=region]')]
        .filter(e => e.checkVisibility() && !(e.innerText || e.ariaLabel || e.labels?.length || e.title
            || e.getAttribute('aria-labelledby')))
        .map(e => e.outerHTML)"""
    assert browser.run(unnamed) == []
    assert browser.run("return document.querySelector('#relkt-status').ariaLive") == "polite"
    assert browser.run("return document.querySelector('#relkt-question label').innerText").startswith("Question")


def test_markup_of_passages_stays_text(browser: Browser) -> None:
    browser.open()
    browser.ask("<img src=x onerror='window.pwned = 1'> markup of a web page ${window.pwned = 1}")
    assert "<b>Markup</b> & other signs" in browser.titles
    page = next(e.text for e in browser.all(".relkt-results article") if "Markup" in e.text)
    assert "<script>window.pwned = 1</script>" in page
    assert "${window.pwned = 1} and {{ window.pwned }}" in page
    assert "javascript:alert(1)" in page
    assert not browser.all(".relkt-results a[href^=javascript]")
    assert browser.run("return window.pwned ?? null") is None


def test_errors_are_shown(browser: Browser) -> None:
    browser.open()
    browser.press("  ", Keys.ENTER)
    browser.wait(lambda: browser.all("#relkt-status [role=alert]"))
    assert "question: expected a text, got a blank one" in browser.status


def test_the_description_of_the_api(browser: Browser) -> None:
    browser.driver.get(browser.url + "docs")
    browser.wait(lambda: browser.all(".opblock-summary"))
    assert "/api/search" in browser.all(".swagger-ui")[0].text.replace("\u200b", "")
    assert browser.requests() == {urlsplit(browser.url).netloc}
    assert browser.problems() == []


def test_the_page_requires_the_token(driver: webdriver.Chrome, index_path: Path) -> None:
    server, url = serve(index_path, RELKT_TOKEN=TOKEN)
    try:
        browser = Browser(driver, url)
        driver.get(url)
        assert urlsplit(driver.current_url).path == "/login"
        browser.wait(lambda: browser.focused.tag_name == "input")
        browser.press("wrong-token", Keys.ENTER)
        browser.wait(lambda: browser.all("[role=alert]") and browser.focused.tag_name == "input")
        browser.press(TOKEN, Keys.ENTER)
        browser.wait(lambda: browser.all("#relkt-question textarea") and browser.focused.tag_name == "textarea")
        browser.ask("Why does ice float?")
        assert browser.titles[0] == "Why ice floats"
        browser.run("[...document.querySelectorAll('button')].find(b => b.innerText === 'Log out').click()")
        browser.wait(lambda: urlsplit(driver.current_url).path == "/login")
        driver.get(url)
        assert urlsplit(driver.current_url).path == "/login"
    finally:
        stop(server)


def test_screenshot(browser: Browser, tmp_path: Path) -> None:
    for _ in range(2):  # the second time shows typical durations
        browser.open()
        browser.ask(WHY_ICE_FLOATS)
    path = Path(os.environ.get("RELKT_SCREENSHOT", tmp_path / "serve.png"))
    assert browser.driver.save_screenshot(str(path))
    assert 10_000 < path.stat().st_size < 300_000
