"""The clock protocol as the documentation describes it, by real programs."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playground import transport
from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.errors import ConnectionFailed
from playground.testing import LockstepClient

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "clock-protocol.md").read_text()


def program(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def plant(bus, clock, heard=None):
    connection = bus.connect(
        "plant", lambda m: heard.append((clock.now, m.payload)) if heard else None
    )
    connection.subscribe("lab/valve")
    clock.every(
        10,
        lambda: connection.publish("lab/temp", b"%d" % (45 + clock.now // 10)),
        phase=Phase.PUBLICATION,
    )


def hosted_log():
    """What the run says when the program's rule is applied inside it."""
    clock = VirtualClock()
    bus = LocalBus(clock)
    log = []
    bus.observe(lambda m: log.append(m) if m.kind == "publish" else None)

    def control(message):
        open_ = float(message.payload) > 50
        connection.publish("lab/valve", b"1" if open_ else b"0")

    connection = bus.connect("my-control", control)
    connection.subscribe("lab/temp")
    plant(bus, clock)
    clock.run(until=100)
    return log


def lockstep_log(start):
    with transport.lockstep(clients=["my-control"]) as opened:
        log = []
        opened.observe(lambda m: log.append(m) if m.kind == "publish" else None)
        plant(opened.bus, opened.clock)
        process = start(opened.url.rpartition(":")[2])
        try:
            opened.clock.run(until=100)
            opened.finish()
            opened.bus.close()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
    return log


def test_the_python_program_of_the_page_says_what_it_would_say_inside(tmp_path):
    path = tmp_path / "control.py"
    path.write_text(program("python"))
    log = lockstep_log(lambda port: subprocess.Popen([sys.executable, path, port]))
    assert log == hosted_log()
    assert len(log) == 20


def test_the_javascript_program_of_the_page_says_what_it_would_say_inside(tmp_path):
    modules = os.environ.get("NODE_PATH", str(ROOT / "node_modules"))
    if shutil.which("node") is None:
        pytest.skip("node is not installed (Debian: apt-get install nodejs)")
    if not (Path(modules) / "mqtt").is_dir():
        pytest.skip("mqtt.js is not installed (npm install --no-save mqtt@5)")
    path = tmp_path / "control.js"
    path.write_text(program("javascript"))
    log = lockstep_log(
        lambda port: subprocess.Popen(
            ["node", path, port], env={**os.environ, "NODE_PATH": modules}
        )
    )
    assert log == hosted_log()


def test_the_client_of_this_package_says_what_it_would_say_inside():
    called = []

    def act(now, messages, client):
        called.append(now)
        for message in messages:
            client.publish("lab/valve", b"1" if float(message.payload) > 50 else b"0")
        return 15 if now == 10 else None

    class Thread(threading.Thread):
        """Looks like a process to the run above."""

        def wait(self, timeout=None):
            self.join(timeout)
            return int(self.is_alive())

        def kill(self):
            pass

    def start(port):
        client = LockstepClient(
            f"mqtt://127.0.0.1:{port}", "my-control", act, filters=["lab/temp"]
        )
        thread = Thread(target=client.run)
        thread.start()
        return thread

    assert lockstep_log(start) == hosted_log()
    assert called[:4] == [0, 10, 15, 20]


def test_a_client_without_a_run_gives_up_and_says_so():
    with transport.realtime() as opened:
        client = LockstepClient(opened.url, "lonely", lambda *_: None)
        with pytest.raises(ConnectionFailed, match="'lonely' heard no tick"):
            client.run(patience_s=0.05)
