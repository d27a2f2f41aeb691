"""A headless Chromium, told what to do over its DevTools protocol."""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.request

from websockets.sync.client import connect

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
