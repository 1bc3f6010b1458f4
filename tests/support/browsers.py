"""Chromium for tests of the console: windows that are signed in, and what is wrong with a page for some people."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), None)
"""Path of the browser. The shell has no window around a page: 0.3 s of CPU for each, instead of 1.2 s (2026-11-30)."""
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium-headless-shell")
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
"""Folder for screenshots of the pages that are checked; none are taken without it, because only people look at them."""
TIMEOUT_MS = 180_000
"""Upper bound of each wait; none is expected to take a second on an idle host."""
NARROW_PX = 360
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": NARROW_PX, "height": 740}
AXE = Axe().axe_script
"""Script that checks a page, of half a megabyte: a page that is checked twice gets it once."""
SERIOUS = ("serious", "critical")
OpenPage = Callable[..., Page]


@contextlib.contextmanager
def run_chromium(*arguments: str) -> Iterator[Browser]:
    """Run a headless Chromium until the block ends."""
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *arguments], timeout=TIMEOUT_MS
        )
        yield browser
        browser.close()


def open_window(browser: Browser, base_url: str, **options: Any) -> Page:
    """Open a window with cookies of its own."""
    context = browser.new_context(base_url=base_url, **options)
    context.set_default_timeout(TIMEOUT_MS)
    return context.new_page()


def sign_in(page: Page, api_key: str) -> None:
    """Sign in with an API key."""
    page.goto("/sign-in")
    page.get_by_text("Sign in with an API key").click()
    page.get_by_label("API key").fill(api_key)
    page.get_by_role("button", name="Sign in with the key").click()
    await_title(page, "Dashboard")


def await_title(page: Page, title: str) -> None:
    """Wait until a page has a title and its scripts run, so that it hears the next key."""
    expect(page).to_have_title(re.compile(title))
    page.wait_for_load_state()


def collect_errors(page: Page) -> list[str]:
    """Return a list that gets each error of a script, of a request, and of the Content-Security-Policy from now on."""
    errors: list[str] = []

    def add(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            errors.append(f"{message.text} {message.location.get('url', '')}")

    page.on("console", add)
    page.on("pageerror", lambda error: errors.append(f"script error: {error}"))
    return errors


def find_obstacles(page: Page, *, rules: tuple[str, ...] = ()) -> list[tuple[str, list[str]]]:
    """Return what is seriously wrong with a page for some people: rules of axe, each with elements that break it.

    Args:
        rules: the rules to check; default: all.
    """
    options: dict[str, Any] = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    violations = page.evaluate("options => axe.run(options).then(results => results.violations)", options)
    return [
        (violation["id"], [node["html"][:160] for node in violation["nodes"][:3]])
        for violation in violations
        if violation["impact"] in SERIOUS
    ]


def take_screenshot(page: Page, name: str) -> None:
    """Save the whole page if screenshots are wanted."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS, f"{name}.png"), full_page=True)


def check_look(page: Page, name: str) -> None:
    """Check the page that a window shows, which stays as it is: for everybody, in light, in dark and narrow."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")  # no colour is on its way to another
    page.set_viewport_size(WIDE)
    take_screenshot(page, f"{name}-light")
    found = {"light": find_obstacles(page)}
    page.emulate_media(color_scheme="dark")
    take_screenshot(page, f"{name}-dark")
    found["dark"] = find_obstacles(page, rules=("color-contrast",))  # the colours are all that differs
    page.set_viewport_size(NARROW)
    take_screenshot(page, f"{name}-narrow")
    width = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size(WIDE)
    assert not any(found.values()), found
    assert width <= NARROW_PX, f"{width} px wide"
