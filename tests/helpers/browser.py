"""A real browser, headless, for tests of the page."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


def require_browser() -> None:
    """Skip the test where there is no browser, with the reason."""
    pytest.importorskip("selenium", reason="needs selenium, of requirements-dev.txt")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")


class Browser:
    """One window; elements are named by CSS selectors."""

    def __init__(self, driver: Any):
        self.driver = driver

    def wait(self, condition: Callable[[], Any], seconds: float = 60, what: str = "") -> Any:
        """The condition's first true value; fails after `seconds`."""
        from selenium.common.exceptions import StaleElementReferenceException

        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(StaleElementReferenceException):
                if value := condition():
                    return value
            assert time.monotonic() < end, f"not within {seconds} s: {what or condition}\n{self.text('body')[:3000]}"
            time.sleep(0.1)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str, seconds: float = 60) -> Any:
        return self.wait(lambda: self.all(selector), seconds, selector)[0]

    def text(self, selector: str) -> str:
        return self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def click(self, selector: str) -> None:
        from selenium.common.exceptions import ElementClickInterceptedException, ElementNotInteractableException

        def clicked() -> bool:
            with contextlib.suppress(ElementClickInterceptedException, ElementNotInteractableException):
                element = self.one(selector)
                self.script("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
                return True
            return False

        self.wait(clicked, 20, f"click {selector}")

    def upload(self, selector: str, path: Any) -> None:
        self.one(f"{selector} input[type=file]").send_keys(str(path))

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def requested(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@contextlib.contextmanager
def open_browser(
    address: str, language: str = "en-US", width: int = 1280, height: int = 900, arguments: Sequence[str] = ()
) -> Iterator[Browser]:
    """A new browser at `address`, with further command line arguments; a width below 500 is that of a phone."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
        f"--lang={language}",
        f"--window-size={width},{height}",
        *arguments,
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        if width < 500:  # a headless window has at least 500 pixels
            metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        driver.get(address)
        yield Browser(driver)
    finally:
        driver.quit()
