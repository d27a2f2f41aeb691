"""The data report names what is wrong, and is silent where nothing is."""

from dataclasses import replace

import numpy as np
import pytest

from playground.learn.dataset import Segment, Series
from playground.learn.examination import examined_rows, examined_series
from playground.signals import Signal, Signals


def signal(name, role="measurement", unit="degC", **more):
    return Signal(name=name, topic=f"t/{name}", unit=unit, role=role, **more)


SIGNALS = Signals(
    [
        signal("valve", "command", "1"),
        signal("ambient", "disturbance"),
        signal("flow"),
        signal("back"),
        signal("power", unit="W"),
        signal("fan", unit="W"),
    ]
)
NAMES = tuple(SIGNALS)


def table(seed, rows=400):
    """Columns as in `SIGNALS`: temperatures that move together, two powers."""
    rng = np.random.default_rng(seed)
    valve = np.repeat(rng.uniform(0, 1, rows // 20), 20)
    heat = np.convolve(valve, np.ones(40) / 40)[:rows]
    noise = 0.05 * rng.standard_normal((rows, 6))
    columns = [valve, 10 + heat, 30 + 20 * heat, 25 + 15 * heat]
    columns += [900 * valve + 50, 90 * valve + 5]
    return np.stack(columns, axis=1) + noise * [0, 1, 1, 1, 10, 1]


def segments(tables):
    return [
        Segment(
            t0=0.0, dt=5.0, u=t[:, :2], y=t[:, 2:], inputs=NAMES[:2], outputs=NAMES[2:]
        )
        for t in tables
    ]


def series_of(rows):
    time = 5.0 * np.arange(len(rows))
    return {n: Series(time=time, value=rows[:, k]) for k, n in enumerate(NAMES)}


def said(findings):
    return {(f.signal, f.kind) for f in findings}


def test_sound_data_give_no_finding():
    tables = [table(seed) for seed in range(6)]
    assert examined_rows(segments(tables), SIGNALS) == []
    assert examined_series(series_of(table(1)), SIGNALS, period_s=5.0) == []


def test_a_swapped_pair_of_columns_is_named_with_its_stretch():
    tables = [table(seed) for seed in range(6)]
    tables[2][:, [4, 5]] = tables[2][:, [5, 4]]
    found = examined_rows(segments(tables), SIGNALS)
    assert said(found) == {("power", "swapped")}
    assert "'fan' in stretch 3" in found[0].text


def test_a_sensor_with_the_wrong_sign_is_named():
    tables = [table(seed) for seed in range(6)]
    signals = Signals([*SIGNALS.values(), signal("coil")])
    both = []
    for number, rows in enumerate(tables):
        coil = -(rows[:, 2] - 3) + 0.05 * np.random.default_rng(number).normal(size=400)
        (one,) = segments([rows])
        both.append(
            replace(one, y=np.column_stack([one.y, coil]), outputs=(*NAMES[2:], "coil"))
        )
    assert said(examined_rows(both, signals)) == {("coil", "sign")}


@pytest.mark.parametrize("silent", ["said nothing", "said nan", "out of range"])
def test_a_signal_that_is_often_unknown_is_named_with_its_longest_silence(silent):
    series = series_of(table(0))
    said_, gap = series["flow"], slice(100, 200)
    value = said_.value.copy()
    value[gap] = {"said nan": np.nan, "out of range": 900.0}.get(silent, value[gap])
    keep = np.ones(400, bool)
    keep[gap] = silent != "said nothing"
    series["flow"] = Series(time=said_.time[keep], value=value[keep])
    signals = Signals(
        replace(s, range=(-50.0, 100.0)) if s.name == "flow" else s
        for s in SIGNALS.values()
    )
    findings = examined_series(series, signals, period_s=5.0)
    (found,) = [f for f in findings if f.kind == "coverage"]
    assert found.signal == "flow"
    assert found.text.startswith("is known 75% of the time, and for 0:08:")


def test_a_signal_that_begins_late_or_ends_early_is_named_too():
    series = series_of(table(0))
    series["flow"] = Series(time=5.0 * np.arange(50, 400), value=np.arange(350.0))
    series["power"] = Series(time=5.0 * np.arange(250), value=np.arange(250.0))
    findings = examined_series(series, SIGNALS, period_s=5.0)
    texts = {f.signal: f.text for f in findings if f.kind == "coverage"}
    assert texts["flow"].startswith(
        "is known 87% of the time, and for 0:04:10 from 0 s"
    )
    assert "from 0:21:" in texts["power"]
    assert len(texts) == 2


def test_a_frozen_sensor_is_named_with_the_time():
    rows = table(1)
    rows[200:340, 2] = rows[200, 2]
    (found,) = examined_series(series_of(rows), SIGNALS, period_s=5.0)
    assert (found.signal, found.kind) == ("flow", "frozen")
    assert "from 0:16:40 on" in found.text


def test_a_sensor_that_never_moves_is_dead():
    rows = table(1)
    rows[:, 3] = 0.0
    found = examined_series(series_of(rows), SIGNALS, period_s=5.0)
    assert said(found) == {("back", "frozen")}
    assert "dead" in found[0].text


def test_negative_registers_read_as_unsigned_are_named_with_the_mend():
    rows = np.round(table(1) * 10)
    rows[50:60, 2] = 65_507
    (found,) = examined_series(series_of(rows), SIGNALS, period_s=5.0)
    assert (found.signal, found.kind) == ("flow", "unsigned")
    assert "65507" in found.text
    assert "type: int16" in found.text


def test_unit_mistakes_are_named():
    tables = [table(seed) for seed in range(4)]
    for rows in tables:
        rows[:, 2] += 273.15
        rows[:, 3] *= 10
    found = examined_rows(segments(tables), SIGNALS)
    assert {("flow", "unit"), ("back", "unit")} <= said(found)
    texts = " ".join(f.text for f in found)
    assert "kelvin" in texts
    assert "tenths" in texts


def test_a_stretch_in_another_scale_is_named():
    tables = [table(seed) for seed in range(5)]
    tables[3][:, 4] /= 1000
    found = examined_rows(segments(tables), SIGNALS)
    assert ("power", "unit") in said(found)
    assert any("stretch 4" in f.text for f in found)


def test_inputs_that_stand_still_or_hardly_move_are_named():
    rows = table(1)
    rows[:, 0] = 0.0
    rows[200:, 0] = 1.0
    rows[:, 1] = 20.0
    found = examined_series(series_of(rows), SIGNALS, period_s=5.0)
    assert said(found) == {("valve", "excitation"), ("ambient", "constant")}
    assert "only 1 times" in next(f.text for f in found if f.signal == "valve")


def test_values_out_of_range_are_counted():
    signals = Signals(
        [signal("valve", "command", "1"), signal("flow", range=(0.0, 90.0))]
    )
    time = np.arange(40.0)
    value = 20 + np.sin(time)
    value[7] = 400.0
    series = {
        "valve": Series(time=time, value=np.where(time % 2 == 0, 0.0, 1.0)),
        "flow": Series(time=time, value=value),
    }
    (found,) = examined_series(series, signals, period_s=1.0)
    assert found.kind == "range"
    assert "1 of 40 values" in found.text
    assert "400" in found.text
