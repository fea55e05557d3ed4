"""What the tests of the dashboard share: gateways, a real Chromium, and a page that is watched for what must never happen."""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sdk"))

from gateway import Gateway  # noqa: E402

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FUSE = 15_000
"""Milliseconds until a page must show what a test waits for."""


@pytest.fixture(scope="session")
def browser():
    # Root, as which CI runs, has no sandbox to run in.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*flags, "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Desk:
    """Gateways and pages of one test. At its end no page may have logged an error, or asked anybody but its gateway."""

    def __init__(self, browser, folder):
        self.browser, self.folder = browser, folder
        self.open, self.problems, self.expected = [], [], []

    def gateway(self, providers, **server):
        """A gateway on these providers."""
        folder = self.folder / f"gateway{len(self.open)}"
        folder.mkdir()
        gateway = Gateway(folder, {"server": server, "providers": providers}, log="info")
        gateway.file = folder / "gateway.json"
        self.open.append(gateway)
        return gateway

    def page(self, gateway, width=1280, height=1000, scheme="light", live=True, before=None):
        """The dashboard of a gateway; what is to happen `before` it is loaded gets the page."""
        page = self.browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.set_default_timeout(FUSE)
        page.on("console", lambda message: message.type in ("error", "warning") and self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"a dialog: {dialog.message}") or dialog.dismiss())

        def look(request):
            if not request.url.startswith((f"{gateway.admin}/", "data:")):
                self.problems.append(f"it asked for {request.url}")

        page.on("request", look)
        if before:
            before(page)
        page.goto(f"{gateway.admin}/")
        if live:
            until(page, "live")
        return page

    def expect(self, text):
        """Messages with this text are no problem: the browser tells of each request that fails."""
        self.expected.append(text)

    def end(self):
        for context in self.browser.contexts:
            context.close()
        for gateway in self.open:
            gateway.__exit__()
        found = [problem for problem in self.problems if not any(text in problem for text in self.expected)]
        assert not found, found


@pytest.fixture
def desk(browser, tmp_path):
    desk = Desk(browser, tmp_path)
    yield desk
    desk.end()


def until(page, state):
    """Waits until the page is in a state."""
    page.wait_for_selector(f'body[data-state="{state}"]', state="attached")


def lane(page, name):
    """The lane of a provider."""
    return page.locator(f".lane[data-provider={json.dumps(name)}]")


def value(where, path):
    """What the page shows of a path of `/stats`, as JSON has it."""
    return json.loads(where.locator(f'[data-stat="{path}"]').first.get_attribute("data-value"))


def get(gateway, path, key=None):
    """What a page of the admin plane says."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with urllib.request.urlopen(urllib.request.Request(gateway.admin + path, headers=headers), timeout=10) as answer:
        return json.load(answer)


def chat(gateway, model):
    """One request; its status."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    request = urllib.request.Request(f"{gateway.data}/v1/chat/completions", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@contextmanager
def load(gateway, *callers):
    """So many callers of each model, for as long as the block lasts."""
    over = threading.Event()

    def call(model):
        while not over.is_set():
            try:
                chat(gateway, model)
            except OSError:
                time.sleep(0.1)
            # Refusals come at once, and are not to be all that this machine does.
            over.wait(0.02)

    threads = [threading.Thread(target=call, args=[model]) for model, many in callers for _ in range(many)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
