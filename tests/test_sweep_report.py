import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from playground.cli import main
from playground.errors import PlaygroundError
from playground.sweep import sweep
from playground.sweep.report import REPORT, render, write_sweep_report

HERE = Path(__file__).parent
TEXT = """\
name: tank
plant: {heated_tank:HeatedTank: {start: 38 degC, power: 10 kW}}
duration: 10min
controllers:
  - thermostat: {measure: temp, command: heater, setpoint: 40 degC, hysteresis: 2 K}
disturbances: {room: 10 degC}
checks:
  - never: temp > 42 degC
matrix: {setpoint: [39 degC, 43 degC], hysteresis: [1 K, 3 K]}
monte_carlo: {runs: 2, vary: {room_offset: {normal: [0 K, 5 K]}}}
"""


def row(number, setpoint, verdict, margin, *, cell="", power="10 kW"):
    return {
        "number": number,
        "cell": cell or f"setpoint={setpoint}",
        "run": 0,
        "seed": 0,
        "verdict": verdict,
        "path": None,
        "with.setpoint": setpoint,
        "with.power": power,
        "margin.never <b>": margin,
        "kpi.travel": 2.0 * number,
    }


ROWS = [
    row(0, "39 degC", "pass", 3.0),
    row(1, "43 degC", "fail", -1.0),
    row(2, "100 degC", "untested", None),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    path = tmp_path / "tank.yaml"
    path.write_text(TEXT)
    return sweep(path, out=tmp_path / "out", workers=1).folder


def test_the_verdict_and_the_failed_runs_come_first():
    page = render(ROWS, "tank", "playground sweep tank.yaml")
    body = page[page.index("<body>") :]
    assert '<header class="fail">' in body
    assert "3 runs: 1 pass, 1 fail, 1 untested" in body
    cells = re.findall(r"<tr><td>(\d)</td>", body)
    assert cells == ["1", "2", "0"]
    assert "never &lt;b&gt;" in body
    assert "never <b>" not in re.sub(r"<script.*?</script>", "", body, flags=re.S)
    assert "<pre>playground sweep tank.yaml</pre>" in body


def test_values_stand_in_the_order_of_their_numbers_not_of_their_letters():
    page = render(ROWS, "tank", "")
    assert '"factors":["39 degC","43 degC","100 degC"]' in page


def test_what_is_the_same_in_all_runs_is_no_axis():
    page = render(ROWS, "tank", "")
    assert '"text":"setpoint"' in page
    assert '"text":"power"' not in page


def test_a_sweep_without_a_matrix_has_no_heat_map():
    rows = [{**one, "cell": ""} for one in ROWS]
    assert "Over the matrix" in render(ROWS, "tank", "")
    assert "Over the matrix" not in render(rows, "tank", "")


def test_the_report_needs_no_network(folder):
    page = write_sweep_report(folder).read_text()
    # The scripts of Bokeh hold pieces of HTML.
    outside = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", outside) == []
    assert "cdn.bokeh.org" not in page
    assert len(page) < 10_000_000
    assert list(folder.glob("*.part")) == []


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(PlaygroundError, match="holds no sweep"):
        write_sweep_report(tmp_path)


def test_the_command_report_knows_a_sweep(folder, capsys):
    main_ended(["report", str(folder)])
    assert capsys.readouterr().out.strip() == str(folder / REPORT)


def main_ended(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="chromium is not installed"
)
def test_a_browser_draws_heat_map_and_parallel_coordinates(folder):
    page = write_sweep_report(folder)
    picture = folder / "page.png"
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--window-size=1200,1600", "--virtual-time-budget=8000"),
            *(f"--screenshot={picture}", page.as_uri()),
        ],
        capture_output=True,
        timeout=60,
        check=True,
    )
    with Image.open(picture) as image:
        seen = {rgb: n for n, rgb in image.convert("RGB").getcolors(1 << 24)}
    # Half of the fields of the heat map failed in all runs, half in none.
    failed, passed = seen.get((0, 32, 76), 0), seen.get((255, 233, 69), 0)
    assert failed > 20_000, failed
    assert passed == pytest.approx(failed, rel=0.1)
    # The lines are half transparent, the axes they stand on are not.
    assert seen.get((68, 68, 68), 0) > 100
    reds = sum(n for (r, g, b), n in seen.items() if r > g + 40 and r > b + 40)
    assert reds > 5_000
