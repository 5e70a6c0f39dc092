"""The evidence page in a real browser: light and dark, on a desk and on a phone. Skipped where chromium is absent."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.jobs.evidence.evidence_documents import complete, judged, troubled, without_replay, written_once
from tests.jobs.evidence.evidence_documents import shown as shown_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

OVERFLOWING = """
[...document.querySelectorAll('body *')]
  .filter(e => !e.closest('.scroll') && !e.closest('svg svg') )
  .filter(e => { const r = e.getBoundingClientRect();
                 return r.width && (r.right > document.documentElement.clientWidth + 1 || r.left < -1) })
  .map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.trim().slice(0, 40))
"""
FAINT = """
(() => {
  const rgba = c => { const v = c.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v };
  const linear = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(linear);
                       return .2126 * r + .7152 * g + .0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
                                                         if (c[3] === 1) return c.slice(0, 3) }
                        return [255, 255, 255] };
  return [...document.querySelectorAll('body *')]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
    .filter(e => e.getBoundingClientRect().width)
    .map(e => { const style = getComputedStyle(e), inSvg = e.namespaceURI.endsWith('svg');
                const [a, b] = [light(rgba(inSvg ? style.fill : style.color).slice(0, 3)), light(behind(e))];
                return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.textContent.trim().slice(0, 40)] })
    .filter(([ratio]) => ratio < 4.5)
})()
"""
OUTSIDE = """
[...document.querySelectorAll('svg .dot, svg .bar, svg polyline')].filter(e => {
  const r = e.getBoundingClientRect(), frame = e.ownerSVGElement.getBoundingClientRect();
  const across = r.left >= frame.left - 6 && r.right <= frame.right + 6;
  return r.width && !(across && r.top >= frame.top - 1 && r.bottom <= frame.bottom + 1)
}).length
"""


class Tab:
    """One tab over the DevTools protocol, and whatever it complained of or asked the network for."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.numbers = socket, count(1)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.note(message)

    def note(self, message: dict[str, Any]) -> None:
        if message["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(message["params"]))
        if message["method"] == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])

    def show(self, path: Path, width: int, scheme: str) -> None:
        """The page, laid out at this width."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=path.as_uri())
        while self.ask("document.readyState") != "complete" or self.ask("location.href") != path.as_uri():
            time.sleep(0.02)

    def ask(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"]["value"]

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A headless chromium of its own, ended whatever happens."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [str(CHROMIUM), *options, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        told = profile / "DevToolsActivePort"
        while not (told.exists() and "\n" in told.read_text()):
            assert process.poll() is None, f"chromium ended with {process.returncode}"
            time.sleep(0.05)
        port = told.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=60) as answer:
            [address] = [tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page"]
        with connect(address, max_size=2**26) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same page a person gets, for each verdict and before it."""
    folder = tmp_path_factory.mktemp("pages")
    document = written_once(tmp_path_factory.getbasetemp())
    long = troubled(document)
    long["challenger"]["candidate_id"] = "a-name-as-long-as-a-team-may-choose-with-no-room-to-break-it-" + "x" * 60
    bare = without_replay(document, "a replay needs requests with candidates and a propensity; found none")
    shapes = {"promote": (document, judged(document)), "trouble": (long, judged(long)), "refuse": (bare, judged(bare))}
    for name, (shape, judgement) in {**shapes, "unjudged": (complete(document), None)}.items():
        (folder / f"{name}.html").write_text(shown_page(shape, judgement))
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["promote", "trouble", "refuse", "unjudged"])
def test_it_fits_is_legible_and_asks_nobody(
    tab: Tab, pages: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    """No sideways scrolling, WCAG AA contrast of all text, marks inside their charts, no error, no request."""
    tab.complaints.clear()
    tab.requests.clear()
    tab.show(pages[name], width, scheme)
    tab.ask("document.querySelectorAll('details').forEach(folded => { folded.open = true }) || 0")
    assert tab.ask("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.ask(OVERFLOWING) == []
    assert tab.ask(FAINT) == []
    assert tab.ask(OUTSIDE) == 0
    dark = tab.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 80)")
    assert dark == (scheme == "dark")
    assert tab.complaints == []
    assert tab.requests == [pages[name].as_uri()]


def test_the_verdict_is_seen_without_scrolling(tab: Tab, pages: dict[str, Path]) -> None:
    """And on a desk both gains with it."""
    tab.show(pages["promote"], 1200, "light")
    assert tab.ask("document.querySelector('.tiles').getBoundingClientRect().bottom < innerHeight")
    for width in (1200, 390):
        tab.show(pages["trouble"], width, "light")
        assert tab.ask("document.querySelector('.verdict .why').getBoundingClientRect().bottom < innerHeight")


def test_every_side_has_one_colour_everywhere(tab: Tab, pages: dict[str, Path]) -> None:
    """A reader who learnt that blue is the challenger must not meet another blue."""
    tab.show(pages["promote"], 1200, "light")
    drawn = """[...document.querySelectorAll('SELECTOR')].map(e => getComputedStyle(e)['PROPERTY'])"""
    seen = {}
    for side in ("champion", "challenger"):
        places = [
            (f".{side} .dot", "fill"),
            (f".bar.{side}", "fill"),
            (f".{side} .curve", "stroke"),
            (f".key.{side}", "color"),
        ]
        found = [
            c for where, what in places for c in tab.ask(drawn.replace("SELECTOR", where).replace("PROPERTY", what))
        ]
        assert len(found) > 20
        assert len(set(found)) == 1
        seen[side] = found[0]
    assert seen["champion"] != seen["challenger"]


def test_it_is_drawn(tab: Tab, pages: dict[str, Path]) -> None:
    """A picture of many colours, not a blank sheet; light and dark differ."""
    shots = []
    for scheme in ("light", "dark"):
        tab.show(pages["promote"], 1200, scheme)
        shots.append(tab.screenshot())
    assert all(shot.startswith(b"\x89PNG") and len(shot) > 100_000 for shot in shots)
    assert shots[0] != shots[1]
