"""The report of a day: how long it takes to write, how large it is, how it pans.

The goals for a day of 1.1 M messages: less than 5 s, less than 10 MB, and smooth
panning: 95 of 100 frames within 50 ms on a machine that does nothing else. The
baseline of the writing is the run, that of the panning an empty page in the same
browser, whose frames take what the machine leaves.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from playground.report import write_report
from playground.run import run
from playground.scenario import Scenario

HERE = Path(__file__).parent
CHECKS = [{"always": f"y{k} in -50 degC..150 degC"} for k in range(10)]
FRAMES = """
(async (count) => {
  const range = window.Bokeh === undefined ? null :
    [...Bokeh.documents[0]._all_models.values()].find((m) => m.x_range?.bounds).x_range;
  const width = range === null ? 0 : (range.end - range.start) / 6;
  const from = range === null ? 0 : range.start;
  const gaps = [];
  let last = performance.now();
  for (let k = -3; k < count; k++) {
    if (range !== null)
      range.setv({start: from + (k + 3) * width / count,
                  end: from + width + (k + 3) * width / count});
    await new Promise((done) => requestAnimationFrame(done));
    await new Promise((done) => setTimeout(done, 0));
    const now = performance.now();
    if (k >= 0) gaps.push(now - last);
    last = now;
  }
  return gaps.sort((a, b) => a - b);
})(COUNT)
"""
DRAWN = """
(async () => {
  while (!(window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle))
    await new Promise((done) => setTimeout(done, 50));
  return true;
})()
"""


class Tab:
    """One tab of a browser."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0

    def call(self, method, **parameters):
        """Calls a method of the protocol and returns what it answers."""
        self._number += 1
        ask = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(ask))
        while True:
            told = json.loads(self._socket.recv(timeout=60))
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]

    def open(self, url):
        """Opens a page."""
        self.call("Page.enable")
        self.call("Page.navigate", url=url)

    def run(self, script):
        """Runs an expression in the page, waits for its promise, returns its value."""
        told = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")


@contextlib.contextmanager
def tab(folder):
    """Opens a headless Chromium with one tab, over its DevTools protocol."""
    process = subprocess.Popen(
        [
            *(str(shutil.which("chromium")), "--headless=new", "--no-sandbox"),
            *("--disable-gpu", f"--user-data-dir={folder}", "--window-size=1300,1000"),
            *("--remote-debugging-port=0", "about:blank"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = (re.search(r"ws://127\.0\.0\.1:(\d+)/", line) for line in process.stderr)
        port = next(found for found in said if found)[1]
        url = f"http://127.0.0.1:{port}/json"
        with urllib.request.urlopen(url, timeout=30) as answer:
            pages = [one for one in json.load(answer) if one["type"] == "page"]
        with connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stderr is not None:
            process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    long = request.config.getoption("--benchmark-enable")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        scenario = Scenario(
            name="bench",
            plant="ten_topics:TenTopics",
            controllers=["ten_topics:ThreeCommands"],
            duration="24h" if long else "10min",
            checks=CHECKS,
        )
        out = tmp_path_factory.mktemp("day") / "out"
        began = time.process_time()
        result = run(scenario, out=out)
        took_s = time.process_time() - began
        began = time.process_time()
        write_report(out)
        wrote_s = time.process_time() - began
        size = (out / "report.html").stat().st_size
        print(
            f"\nreport of {result.messages:,} messages: {wrote_s:.2f} s of processor "
            f"time, {wrote_s / took_s:.2f} × the run, {size / 1e6:.1f} MB"
        )
        assert size < 10_000_000
        if long:
            assert wrote_s < took_s
    return out


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)
def test_panning(folder, tmp_path, request):
    long = request.config.getoption("--benchmark-enable")
    script = FRAMES.replace("COUNT", "100" if long else "10")
    (tmp_path / "empty.html").write_text("<!doctype html><title>empty</title>")
    with tab(tmp_path / "browser") as page:
        page.open((tmp_path / "empty.html").as_uri())
        idle = page.run(script)
        page.open((folder / "report.html").as_uri())
        assert page.run(DRAWN)
        panned = page.run(script)
    assert len(panned) == len(idle)

    def at(frames, share):
        return frames[int(share * (len(frames) - 1))]

    print(
        f"\npanning: half of the frames within {at(panned, 0.5):.0f} ms, 95 % within "
        f"{at(panned, 0.95):.0f} ms; empty page {at(idle, 0.5):.0f} ms and "
        f"{at(idle, 0.95):.0f} ms: {at(panned, 0.5) / at(idle, 0.5):.1f} ×"
    )
