"""The report of a day: how long it takes to write, how large it is, how it pans.

The goals for a day of 1.1 M messages: less than 5 s, less than 10 MB, and smooth
panning: 95 of 100 frames within 50 ms on a machine that does nothing else. The
baseline of the writing is the run, that of the panning an empty page in the same
browser, whose frames take what the machine leaves.
"""

import shutil
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from browser import DRAWN, tab

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
