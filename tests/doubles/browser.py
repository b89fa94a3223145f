"""The system's Chromium, driven by Playwright: pages, screenshots, accessibility checks.

Rules: one browser for a test session, one context for each person; whatever a page reports (an
error of its script, a violation of its policy, a failed request of ours) fails the test that made
it; screenshots go to build/screens, and a page that is taken is checked: axe-core, both themes, and
that nothing of it sticks out of a phone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.facilities import ROOT, require, require_path

SCREENS = ROOT / "build" / "screens"
WIDE = {"width": 1360, "height": 860}
PHONE = {"width": 390, "height": 844}
THEMES = ("light", "dark")
WAIT_MS = 30_000
# What the policy refuses, its script is not told otherwise; the console hears of it as an error.
_REPORT = """document.addEventListener('securitypolicyviolation', (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"""
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What a page says of a hub that is away: it asks for its parts, and its socket tries again.
HUB_AWAY = re.compile(r"WebSocket connection to|net::ERR_|Failed to (fetch|load resource)")
# The socket's client is the last thing that a page fetches, once it has been painted.
_SETTLED = """() => !document.querySelector('.htmx-request') && performance
    .getEntriesByType('resource').some((one) => one.name.endsWith('/socket.io.js'))"""
_STICKS_OUT = "document.documentElement.scrollWidth - innerWidth"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser."""
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


class Person:
    """Somebody with a browser of their own.

    Attributes:
        page: Playwright's page.
        faults: what pages have reported; `close` raises if there is any.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.faults: list[str] = []
        self.context: BrowserContext = browser.new_context(
            base_url=url,
            viewport=WIDE,  # type: ignore[arg-type]
            color_scheme="light",
            **options,
        )
        self.context.set_default_timeout(WAIT_MS)
        self.context.add_init_script(_REPORT)
        self.page = self._new_page()

    def _new_page(self) -> Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("console", self._on_console)
        return page

    def _on_console(self, message: Any) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            self.faults.append(f"console: {message.text}")

    def log_in(self, name: str, password: str) -> None:
        """Log in by the form."""
        self.page.goto("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url("**/agents*")

    def show(self, path: str) -> Page:
        """Open a page of the hub."""
        self.page.goto(path)
        return self.page

    def settle(self) -> None:
        """Wait until a page has all that it asked for."""
        self.page.wait_for_function(_SETTLED)

    def screenshots(self, name: str) -> None:
        """Take the page as it is, dark and light, wide and phone; and check it."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        assert self.axe() == [], name
        self.page.evaluate("scrollTo(0, 0)")
        for theme in THEMES:
            self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
            for width, size in (("wide", WIDE), ("phone", PHONE)):
                self.page.set_viewport_size(size)  # type: ignore[arg-type]
                assert self.page.evaluate(_STICKS_OUT) <= 0, f"{name} sticks out: {width}"
                self.page.screenshot(path=SCREENS / f"{name}-{theme}-{width}.png", full_page=True)
        self.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        self.page.emulate_media(color_scheme="light")

    def axe(self) -> list[str]:
        """Return serious and critical findings of axe-core on the page as it is, both themes.

        The second differs from the first in its colours alone.
        """
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe_script())  # by the debugger: no policy is in its way
        found: list[str] = []
        for theme, rules in zip(THEMES, ("", ", runOnly: ['color-contrast']"), strict=True):
            self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
            result = self.page.evaluate(f"axe.run({{resultTypes: ['violations']{rules}}})")
            found += [
                f"{theme} {one['id']}: {json.dumps([node['html'] for node in one['nodes']])[:600]}"
                for one in result["violations"]
                if one["impact"] in ("serious", "critical")
            ]
        self.page.emulate_media(color_scheme="light")
        return found

    def close(self) -> None:
        """End the browser's context; fail for what pages have reported."""
        self.context.close()
        assert self.faults == []


def axe_script() -> str:
    """Return axe-core's text."""
    path = ROOT / "tests" / "doubles" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    return require_path(path, "make node").read_text(encoding="utf-8")


def screens() -> Path:
    """Return where screenshots are."""
    return SCREENS
