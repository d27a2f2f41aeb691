import math
from pathlib import Path

import numpy as np
import pytest

from playground.errors import PlaygroundError
from playground.kpis import KPIS, formulas, read_kpi, read_limit
from playground.message import Message
from playground.recording import RecordingWriter
from playground.signals import Signal, Signals
from playground.trajectory import Traces, Trajectory

AREA_M2 = 192.0
PRICES = {
    "constant": "PriceElectricPowerConstant",
    "dynamic": "PriceElectricPowerDynamic",
    "highly_dynamic": "PriceElectricPowerHighlyDynamic",
}


def held(table_times, table_values, times):
    return table_values[np.searchsorted(table_times, times, side="right") - 1]


@pytest.fixture
def boptest(data_dir):
    import pyarrow.parquet as pq

    folder = data_dir / "boptest"
    read = {
        name: {
            column: table.column(column).to_numpy().astype(float)
            for column in table.column_names
        }
        for name, table in (
            (name, pq.read_table(folder / f"{name}_shoulder.parquet"))
            for name in ("results", "boundary")
        )
    }
    oracle = {}
    for line in (folder / "kpis_shoulder.csv").read_text().splitlines()[1:]:
        price, kpi, value = line.split(",")
        oracle[price, kpi] = float(value) if value else None
    return read["results"], read["boundary"], oracle


@pytest.mark.parametrize("price", PRICES)
def test_the_formulas_give_boptests_own_figures(boptest, price):
    results, boundary, oracle = boptest
    times = results["time"]

    def limit(name):
        return held(boundary["time"], boundary[name], times)

    powers = [results[n] for n in ("reaPFan_y", "reaPHeaPum_y", "reaPPumEmi_y")]
    energy = {"electricity": powers, "area_m2": AREA_M2}
    ours = {
        "tdis_tot": formulas.tdis_tot(
            times,
            zones=[results["reaTZon_y"]],
            lower=limit("LowerSetp[1]"),
            upper=limit("UpperSetp[1]"),
        ),
        "idis_tot": formulas.idis_tot(
            times, co2=[results["reaCO2RooAir_y"]], co2_upper=limit("UpperCO2[1]")
        ),
        "ener_tot": formulas.ener_tot(times, **energy),
        "cost_tot": formulas.cost_tot(times, **energy, price=limit(PRICES[price])),
        "emis_tot": formulas.emis_tot(
            times, **energy, emission=limit("EmissionsElectricPower")
        ),
        "pele_tot": formulas.pele_tot(times, **energy),
        "pgas_tot": formulas.pele_tot(times, electricity=[], area_m2=AREA_M2),
        "pdih_tot": formulas.pele_tot(times, electricity=[], area_m2=AREA_M2),
    }
    for kpi, value in ours.items():
        expected = oracle[price, kpi]
        if expected is None:
            assert value is None, kpi
        else:
            assert value == pytest.approx(expected, rel=1e-12, abs=0), kpi


def test_a_recording_of_boptests_trajectory_gives_its_figures(boptest, tmp_path):
    """The same through messages, roles, units and tables."""
    results, boundary, oracle = boptest
    names = {
        "fan": ("reaPFan_y", "W"),
        "heat_pump": ("reaPHeaPum_y", "W"),
        "pump": ("reaPPumEmi_y", "W"),
        "zone": ("reaTZon_y", "K"),
        "co2": ("reaCO2RooAir_y", "ppm"),
    }
    signals = Signals(
        Signal(name=name, topic=f"bop/{name}", unit=unit, role="measurement")
        for name, (_, unit) in names.items()
    )
    start = results["time"][0]
    with RecordingWriter(tmp_path / "bop.parquet", journal=False) as writer:
        for row, time in enumerate(results["time"]):
            for name, (column, _) in names.items():
                value = repr(float(results[column][row])).encode()
                at = round((time - start) * 1e9)
                writer.append(Message(at, f"bop/{name}", value))
        recording = writer.close()
    for key in ("LowerSetp[1]", "UpperSetp[1]", "UpperCO2[1]", *PRICES.values()):
        rows = [
            f"{t - start},{v!r}"
            for t, v in zip(boundary["time"], boundary[key].tolist(), strict=True)
            if t >= start
        ]
        (tmp_path / f"{key}.csv").write_text("\n".join(["time,value", *rows]))
    roles = {
        "electricity": ["fan", "heat_pump", "pump"],
        "area": "192 m^2",
        "zones": ["zone"],
        "lower": {"table": "LowerSetp[1].csv", "unit": "K"},
        "upper": {"table": "UpperSetp[1].csv", "unit": "K"},
        "co2": "co2",
        "co2_upper": {"table": "UpperCO2[1].csv"},
        "emission": "0.167 kg/kWh",
        "price": {"table": f"{PRICES['dynamic']}.csv"},
    }
    traces = Traces.of(recording, signals, list(signals), origin_ns=0)
    for kind in (
        "ener_tot",
        "cost_tot",
        "emis_tot",
        "pele_tot",
        "idis_tot",
        "tdis_tot",
    ):
        kpi = read_kpi(kind, {}, roles, signals, folder=tmp_path)
        span = traces.trajectory(kpi.signals, 0.0, float(results["time"][-1] - start))
        expected = oracle["dynamic", kind]
        assert kpi.of(span) == pytest.approx(expected, rel=1e-12, abs=0), kind
    for kind in ("pgas_tot", "pdih_tot"):
        assert read_kpi(kind, {}, roles, signals).of(span) is None


def hold(values, step=1.0):
    values = np.array(values, float)
    return np.full(len(values), step), values


def test_the_performance_factor_is_not_the_mean_of_the_cop():
    seconds, heat = hold([10, 2])
    electricity = np.array([1.0, 20.0])
    assert formulas.pf(seconds, heat=heat, electricity=electricity) == pytest.approx(
        12 / 21, rel=1e-15
    )
    assert formulas.cop_mean(
        heat=heat, electricity=electricity, starting_power_w=0
    ) == pytest.approx(5.05, rel=1e-15)


def test_the_hot_water_cycle_of_the_contract():
    share = (np.arange(100_000) + 0.5) / 100_000
    seconds = np.full(len(share), 0.01)
    heat, electricity = 8000 * (1 - 0.15 * share), 2000 * (1 + 0.52 * share)
    pf = formulas.pf(seconds, heat=heat, electricity=electricity)
    cop = formulas.cop_mean(heat=heat, electricity=electricity)
    assert pf / 4 == pytest.approx(0.73413, abs=5e-6)
    assert cop / 4 == pytest.approx(0.74902, abs=5e-6)
    assert cop / pf - 1 == pytest.approx(0.0203, abs=5e-5)


def test_carnots_cop():
    assert formulas.carnot_cop(cold_degc=0, hot_degc=35) == pytest.approx(
        8.80, abs=0.005
    )


def test_standby_running_and_starts_of_the_contract():
    seconds = np.full(360, 10.0)
    electricity = np.repeat([12.0, 2000.0], 180)
    heat = np.repeat([0.0, 8000.0], 180)
    both = {"heat": heat, "electricity": electricity}
    assert formulas.energy_kwh(seconds, electricity) == pytest.approx(1.006, rel=1e-12)
    assert formulas.energy_kwh(seconds, heat) == pytest.approx(4.0, rel=1e-12)
    assert formulas.pf(seconds, **both) == pytest.approx(3.976, abs=5e-4)
    assert formulas.running_pf(seconds, **both) == pytest.approx(4.0, rel=1e-12)
    standby = formulas.standby_kwh(seconds, electricity=electricity)
    assert standby == pytest.approx(0.006, rel=1e-12)
    assert formulas.starts(electricity >= 150) == 1


def test_starts_skip_gaps():
    nan = math.nan
    assert formulas.starts(np.array([0, 1, nan, 1, 0, nan, 1, 1, nan, 0, 1.0])) == 3
    assert formulas.starts(np.array([1.0, 1, nan])) == 0
    assert formulas.starts(np.array([nan])) == 0


def test_run_and_off_times_count_only_if_they_are_complete():
    running = np.array([1, 0, 0, 1, 1, 1, 0, 1.0])
    seconds = np.array([5, 10, 10, 7, 7, 7, 3, 1.0])
    assert formulas.shortest(seconds, running=running, on=True) == 21
    assert formulas.shortest(seconds, running=running, on=False) == 3
    assert formulas.shortest(seconds[:3], running=running[:3], on=False) is None


def test_travel_and_saturation():
    values = np.array([0, 0.5, math.nan, 0.2, 1.0])
    assert formulas.travel(values) == pytest.approx(0.5 + 0.3 + 0.8)
    seconds = np.full(5, 2.0)
    share = formulas.saturation_share(seconds, values=values, low=0, high=1)
    assert share == pytest.approx(2 / 4)


def test_figures_of_a_step_response():
    # A first-order step from 20 to 30 with 63 % at 100 s, and one that overshoots.
    times = np.arange(0.0, 1000.0)
    setpoint = np.full(len(times), 30.0)
    slow = 30 - 10 * np.exp(-times / 100)
    rise = formulas.rise_time_s(times, values=slow, setpoint=setpoint)
    assert rise == pytest.approx(100 * math.log(9), abs=1.5)
    settled = formulas.settling_time_s(times, values=slow, setpoint=setpoint)
    assert settled == pytest.approx(100 * math.log(20), abs=1)
    assert formulas.overshoot(values=slow, setpoint=setpoint) == 0
    seconds = np.ones(len(times))
    iae = formulas.iae(seconds, values=slow, setpoint=setpoint)
    assert iae == pytest.approx(1000, rel=0.01)
    ise = formulas.ise(seconds, values=slow, setpoint=setpoint)
    assert ise == pytest.approx(5000, rel=0.02)
    hours = formulas.unmet_hours(seconds, values=slow, setpoint=setpoint, band=1.0)
    assert hours == pytest.approx(100 * math.log(10) / 3600, abs=1 / 3600)
    beyond = 30 - 10 * np.exp(-times / 100) * np.cos(times / 50)
    swing = formulas.overshoot(values=beyond, setpoint=setpoint)
    assert swing == pytest.approx(100 * (beyond.max() - 30) / 10)
    assert formulas.overshoot(values=setpoint, setpoint=setpoint) is None
    falling = formulas.overshoot(values=50 - beyond, setpoint=np.full(1000, 20.0))
    assert falling == pytest.approx(swing)


def test_defrost_counts_heat_taken_back():
    seconds, heat = hold([1000, -500, -500, 0], step=3600)
    assert formulas.defrost_kwh(seconds, heat=heat) == pytest.approx(1.0)


def test_prices_may_be_negative():
    times = np.array([0.0, 3600.0])
    cost = formulas.cost_tot(
        times, electricity=[np.array([1000.0, 1000])], price=np.array([-0.1, -0.1])
    )
    assert cost == pytest.approx(-0.1, rel=1e-5)


# -- KPIs of a scenario


SIGNALS = Signals(
    [
        Signal(name="p", topic="p", unit="kW", role="measurement"),
        Signal(name="q", topic="q", unit="kW", role="measurement"),
        Signal(name="t", topic="t", unit="degC", role="measurement"),
        Signal(name="u", topic="u", unit="1", role="command", range=(0, 1)),
    ]
)


def span(end_s, **columns):
    times = np.arange(len(next(iter(columns.values())))) * 10.0
    return Trajectory(
        times_s=times,
        values={k: np.array(v, float) for k, v in columns.items()},
        end_s=end_s,
    )


def test_a_kpi_converts_to_the_unit_of_its_formula():
    kpi = read_kpi("electricity_kwh", {}, {"electricity": "p"}, SIGNALS)
    assert kpi.of(span(3600, p=[2])) == pytest.approx(2.0)
    assert kpi.signals == ("p",)


def test_the_starting_power_is_150_w_in_whatever_unit_the_signal_has():
    kpi = read_kpi("starts", {"of": "p"}, {}, SIGNALS)
    assert kpi.of(span(60, p=[0.1, 0.2, 0.1, 0.16])) == 2
    kpi = read_kpi("starts", {"of": "p", "above": "1 kW"}, {}, SIGNALS)
    assert kpi.of(span(60, p=[0.1, 0.2, 0.1, 1.16])) == 1
    kpi = read_kpi("starts_per_hour", {"of": "u"}, {}, SIGNALS)
    assert kpi.of(span(1800, u=[0, 1, 0, 0.3])) == 4


def test_a_setpoint_may_be_a_number_or_a_signal():
    kpi = read_kpi("iae", {"of": "t", "setpoint": "20 degC"}, {}, SIGNALS)
    assert kpi.of(span(20, t=[18, 21])) == pytest.approx(30)
    assert kpi.unit == "K*s"
    kpi = read_kpi("unmet_hours", {"of": "t", "setpoint": "293.15 K"}, {}, SIGNALS)
    assert kpi.of(span(3600, t=[18])) == pytest.approx(1)


def test_a_kpi_can_be_used_twice_under_two_names():
    kpi = read_kpi("travel", {"of": "u", "as": "pump_travel"}, {}, SIGNALS)
    assert (kpi.name, kpi.unit) == ("pump_travel", "1")
    assert kpi.of(span(30, u=[0, 1, 0.5])) == 1.5


def test_the_way_of_a_temperature_is_a_difference():
    kpi = read_kpi("travel", {"of": "t"}, {}, SIGNALS)
    assert kpi.unit == "K"
    assert read_limit("travel <= 300 K", {"travel": kpi}).value == 300


def test_end_stops_are_those_of_the_signal_by_default():
    kpi = read_kpi("saturation_share", {"of": "u"}, {}, SIGNALS)
    assert kpi.of(span(40, u=[0, 1, 0.5, 0.5])) == 0.5


def test_a_users_own_kpi_is_a_function(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def hottest(span, *, margin=0):\n"
        '    """Highest temperature."""\n'
        "    return span.values['t'].max() + margin\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kpi = read_kpi(
        "mine:hottest",
        {"signals": "t", "unit": "degC", "margin": 1},
        {},
        SIGNALS,
    )
    assert kpi.of(span(30, t=[18, 21])) == 22
    assert (kpi.name, kpi.unit, kpi.about) == (
        "hottest",
        "degC",
        "Highest temperature.",
    )


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("ener_tt", {}, "There is no KPI 'ener_tt'. Did you mean 'ener_tot'?"),
        ("pf", {"heat": "q"}, "pf needs to know which signal is its 'electricity'"),
        ("pf", {"heat": "q", "electricity": "pp"}, "There is no signal 'pp'"),
        ("pf", {"heat": "t", "electricity": "p"}, "'degC' does not convert to 'W'"),
        (
            "travel",
            {"off": "u"},
            "unknown parameter 'off' of travel. Did you mean 'of'",
        ),
        (
            "iae",
            {"of": "t", "setpoint": 20},
            "20 has no unit, but must be in degC",
        ),
        ("pf", {"heat": ["q", "p"], "electricity": "p"}, "takes one signal as 'heat'"),
        ("nowhere:kpi", {}, "names the module 'nowhere'"),
    ],
)
def test_a_wrong_kpi_is_refused_with_what_to_write(kind, given, said):
    with pytest.raises(PlaygroundError) as error:
        read_kpi(kind, given, {}, SIGNALS)
    assert said in str(error.value)


def test_limits_are_read_in_the_unit_of_the_kpi():
    kpis = {
        "e": read_kpi("electricity_kwh", {"as": "e"}, {"electricity": "p"}, SIGNALS),
        "s": read_kpi("starts_per_hour", {"of": "u", "as": "s"}, {}, SIGNALS),
    }
    assert read_limit("s <= 6", kpis).value == 6
    assert read_limit("e < 3.6 MJ", kpis).value == pytest.approx(1.0)
    relative = read_limit("e <= 105 % of baseline", kpis)
    assert (relative.relative, relative.value) == (True, 1.05)
    for text, said in (
        ("s <= six", "is not a limit"),
        ("starts <= 6", "there is no KPI 'starts'"),
        ("e <= 3 K", "does not convert"),
        ("e <= 3 kWh of baseline", "is not a share of the baseline"),
    ):
        with pytest.raises(PlaygroundError, match=said):
            read_limit(text, kpis)


def test_every_kpi_of_the_contract_is_there():
    named = [
        "tdis_tot",
        "idis_tot",
        "ener_tot",
        "cost_tot",
        "emis_tot",
        "pele_tot",
        "pgas_tot",
        "pdih_tot",
        "pf",
        "cop_mean",
        "standby_kwh",
        "starts",
        "defrost_kwh",
        "starts_per_hour",
        "min_run_time_s",
        "min_off_time_s",
        "travel",
        "saturation_share",
        "iae",
        "ise",
        "overshoot",
        "settling_time_s",
        "rise_time_s",
        "unmet_hours",
    ]
    assert set(named) <= set(KPIS)


def test_the_contract_is_where_the_names_come_from(data_dir):
    page = Path(data_dir).parent / "contracts" / "kpis.md"
    if not page.exists():
        pytest.skip("no contract here")
    text = page.read_text()
    for name in ("ener_tot", "standby_kwh", "saturation_share", "unmet_hours"):
        assert name in text
