import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from browser import DRAWN, tab

from playground.errors import PlaygroundError
from playground.plots import thin
from playground.recording import Recording
from playground.report import write_report
from playground.run import run
from playground.scenario import Scenario, load_scenario
from playground.trajectory import Traces

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    scenario = Scenario(
        name="tank",
        description="A <b>tank</b> that is too warm & is told so.",
        plant="heated_tank:HeatedTank",
        duration="1h",
        warm_up="5min",
        controllers=[
            {
                "thermostat": {
                    "measure": "temp",
                    "command": "heater",
                    "setpoint": "40 degC",
                    "hysteresis": "2 K",
                }
            }
        ],
        checks=[{"never": "temp > 39 degC"}, {"always": "temp > 10 degC"}],
        kpis={"use": [{"travel": {"of": "heater"}}]},
    )
    return run(scenario, out=tmp_path / "out").folder


def test_a_report_says_verdict_checks_figures_and_how_to_repeat(folder):
    page = write_report(folder, again="playground run tank.yaml").read_text()
    result = json.loads((folder / "result.json").read_text())
    body = page[page.index("<body>") :]
    assert '<header class="fail">' in body
    assert "A &lt;b&gt;tank&lt;/b&gt; that is too warm &amp; is told so." in body
    assert body.index("fail: tank") < body.index("never temp &gt; 39 degC")
    assert body.index("never temp &gt; 39 degC") < body.index("travel")
    assert "What went wrong" in body
    assert result["sha256"] in body
    assert "<pre>playground run tank.yaml</pre>" in body
    margin = result["checks"][0]["margin"]
    assert f"{margin:.5g} K" in body


def test_a_report_needs_no_network(folder):
    page = write_report(folder).read_text()
    outside = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    assert outside == []
    assert "cdn.bokeh.org" not in page
    assert len(page) < 10_000_000


def test_a_report_holds_every_signal_that_was_said(folder):
    page = write_report(folder).read_text()
    for name in ("temp", "power", "heater"):
        assert f'"name":"{name}"' in page


def test_what_went_wrong_is_drawn_with_an_axis_for_each_unit(folder, tmp_path):
    scenario = load_scenario(folder / "scenario.resolved.yaml").replace(
        checks=[{"always": "temp > 30 degC or power < 5 kW"}], duration="6min"
    )
    page = write_report(run(scenario, out=tmp_path / "two").folder).read_text()
    # Once in the picture of the failure, once in the overview.
    assert page.count('"axis_label":"degC"') == page.count('"axis_label":"kW"') == 2


def test_a_check_that_passed_is_shown_where_it_was_closest(folder):
    page = write_report(folder).read_text()
    body = page[page.index("What went wrong") :]
    assert body.index("What went wrong") < body.index("Where it was closest")
    closest = body[body.index("Where it was closest") :]
    margin = json.loads((folder / "result.json").read_text())["checks"][1]["margin"]
    assert "<h3>always temp &gt; 10 degC</h3>" in closest
    assert f"{margin:.5g} K off" in closest
    assert "Messages around it" in closest


def test_the_messages_around_the_worst_instant_are_shown(folder):
    page = write_report(folder).read_text()
    excerpt = page[page.index("Messages around it") :]
    assert "tank/temp" in excerpt
    assert "<tr class=worst>" in excerpt


def test_nothing_is_left_half_written(folder):
    write_report(folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "report.html",
        "result.json",
        "run.parquet",
        "scenario.resolved.yaml",
    ]


def test_two_runs_can_be_laid_over_each_other(folder, tmp_path, capsys):
    from playground.cli import main

    other = load_scenario(folder / "scenario.resolved.yaml").replace(
        name="lazy", controllers=[]
    )
    lazy = run(other, out=tmp_path / "lazy").folder
    with pytest.raises(SystemExit) as end:
        main(["report", str(folder), "--compare", str(lazy)])
    assert end.value.code == 0
    page = (folder / "report.html").read_text()
    assert "Compared with lazy" in page
    assert "margin of never temp &gt; 39 degC" in page
    assert '"name":"temp, the other"' in page
    assert "temp, the other" not in write_report(folder).read_text()


def test_the_command_finds_a_module_in_the_current_folder(folder, tmp_path):
    (tmp_path / "here").mkdir()
    shutil.copy(HERE / "heated_tank.py", tmp_path / "here")
    playground = Path(sys.executable).parent / "playground"
    done = subprocess.run(
        [str(playground), "report", str(folder)],
        cwd=tmp_path / "here",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "report.html")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(PlaygroundError, match="holds no run"):
        write_report(tmp_path)


def test_a_damaged_result_is_refused(folder):
    (folder / "result.json").write_text("{")
    with pytest.raises(PlaygroundError, match="is damaged"):
        write_report(folder)


@given(
    arrays.arrays(
        float,
        st.integers(1, 400),
        elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))),
    )
)
def test_thinning_keeps_extremes_ends_and_gaps(values):
    times = np.arange(len(values), dtype=float)
    kept_times, kept = thin(times, values, buckets=10)
    assert len(kept) <= max(40, 4 * 12 + 2 * np.isnan(values).sum() + 2)
    assert (np.diff(kept_times) > 0).all()
    assert kept_times[0] == 0
    assert kept_times[-1] == times[-1]
    if not np.isnan(values).all():
        assert np.nanmax(kept) == np.nanmax(values)
        assert np.nanmin(kept) == np.nanmin(values)
    place = kept_times.astype(int)
    assert np.array_equal(kept, values[place], equal_nan=True)
    gaps = np.isnan(values)
    starts = np.flatnonzero(gaps[1:] & ~gaps[:-1]) + 1
    assert set(starts.tolist()) <= set(place.tolist())


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)
def test_a_browser_draws_the_report(folder, tmp_path):
    page = write_report(folder)
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1200,2400",
            "--virtual-time-budget=10000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # Bokeh draws into canvases, which exist only once its script has run.
    assert "bk-Figure" in done.stdout
    assert "bk-Canvas" in done.stdout or "<canvas" in done.stdout


ZOOMED = """
(async ([start, end]) => {
  const models = [...Bokeh.documents[0]._all_models.values()];
  const axis = models.find((m) => m.x_range?.bounds).x_range;
  const line = models.find((m) => m.type === "GlyphRenderer" && m.name === "temp");
  if (axis.drawn) axis.drawn.rests = false;
  axis.setv({start: axis.bounds[0] + start * 1000, end: axis.bounds[0] + end * 1000});
  await new Promise((done) => requestAnimationFrame(done));
  while (!axis.drawn?.rests)
    await new Promise((done) => setTimeout(done, 20));
  const data = line.data_source.data;
  return [[...data.t].map((t) => (t - axis.bounds[0]) / 1000), [...data.v]];
})(SPAN)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)
def test_who_zooms_in_sees_every_sample(folder, tmp_path):
    page = write_report(folder)
    setup = load_scenario(folder / "scenario.resolved.yaml").prepare()
    traces = Traces.of(
        Recording.open(folder / "run.parquet"),
        setup.signals,
        ["temp"],
        origin_ns=setup.start_ns,
    )
    times, values = traces.samples["temp"]
    with tab(tmp_path / "browser") as browser:
        browser.open(page.as_uri())
        assert browser.run(DRAWN)
        for start, end in [(100, 3500), (1000, 1060), (1020, 1090), (0, 3600)]:
            drawn_t, drawn_v = browser.run(
                ZOOMED.replace("SPAN", json.dumps([start, end]))
            )
            inside = (times >= start) & (times <= end)
            expected = (times[inside], values[inside])
            shown = np.searchsorted(drawn_t, expected[0], side="right") - 1
            if end - start < 100:
                assert np.allclose(np.array(drawn_v)[shown], expected[1], atol=1e-4)
            else:
                assert drawn_t == sorted(drawn_t)
                assert max(drawn_v) == pytest.approx(max(expected[1]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)
def test_what_the_browser_shows_is_the_verdict_and_the_signals(folder):
    page = write_report(folder)
    picture = folder / "page.png"
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--window-size=1200,2400", "--virtual-time-budget=8000"),
            *(f"--screenshot={picture}", page.as_uri()),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
        top = image.convert("RGB").crop((0, 0, 1200, 200)).getcolors(1 << 24)
    seen = {rgb: count for count, rgb in colours}
    # The verdict is the first thing one sees, in red.
    header = {rgb: count for count, rgb in top}[180, 35, 24]
    assert header > 50_000
    # Lines of Bokeh's first colour: the temperature, over the run and near its worst.
    # A line is one pixel wide and softened, so what is near that colour counts.
    blue = sum(n for (r, g, b), n in seen.items() if b > r + 60 and b > g + 20)
    assert blue > 2_000
    # The warm-up is grey.
    assert any(
        r == g == b and 230 < r < 250 and count > 1000
        for (r, g, b), count in seen.items()
    )
