import importlib.util
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.bus import LocalBus
from playground.clock import Phase, VirtualClock
from playground.controllers.function import Course, is_strategy, maker_of
from playground.controllers.pid import PID
from playground.controllers.process import ProcessLoop
from playground.controllers.schedule import Schedule
from playground.controllers.thermostat import Thermostat
from playground.controllers.weather_compensation import WeatherCompensation
from playground.document import Document
from playground.errors import PlaygroundError
from playground.parameters import build, parameters_of
from playground.signals import Signal, Signals
from playground.testing import check_controller


def beside(name):
    """Returns a module that lies beside this one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)  # For pickle.
    spec.loader.exec_module(module)
    return module


own_strategies = beside("own_strategies")
HeatedTank = beside("heated_tank").HeatedTank
SIGNALS = Signals(
    [
        Signal(name="t", topic="t", unit="degC", role="measurement"),
        Signal(name="wanted", topic="w", unit="degC", role="measurement"),
        Signal(name="u", topic="u", unit="1", role="command", range=(0, 1)),
        Signal(name="flow", topic="f", unit="l/s", role="command"),
    ]
)


def thermostat(**changes):
    facts = {"measure": "t", "command": "u", "setpoint": 50.0, "hysteresis": 2.0}
    return Thermostat(**(facts | changes))


def played(controller, values, period_s=10.0, name="t"):
    key = controller.commands[0]
    return [
        controller.step(k * period_s, {name: value}).get(key)
        for k, value in enumerate(values)
    ]


def test_a_thermostat_switches_at_the_edges_of_its_hysteresis():
    said = played(thermostat(), [50, 49.1, 49, 50, 50.9, 51, 50, 49.1, 49])
    assert said == [0, 0, 1, 1, 1, 0, 0, 0, 1]


def test_a_cooling_thermostat_is_the_mirror_image():
    said = played(thermostat(cooling=True), [50, 50.9, 51, 50, 49.1, 49, 50, 51])
    assert said == [0, 0, 1, 1, 1, 0, 0, 1]


def test_a_thermostat_uses_the_levels_it_was_given():
    assert played(thermostat(on=0.7, off=0.1), [40, 60]) == [0.7, 0.1]


def test_a_thermostat_spares_the_machine():
    slow = thermostat(min_on_s=25.0, min_off_s=25.0)
    assert played(slow, [40, 60, 60, 60, 40, 40, 40]) == [1, 1, 1, 0, 0, 0, 1]


def test_a_thermostat_may_follow_a_signal():
    controller = thermostat(setpoint="wanted")
    assert controller.measures == ("t", "wanted")
    assert controller.step(0, {"t": 40, "wanted": 30}) == {"u": 0}
    assert controller.step(10, {"t": 40, "wanted": 42}) == {"u": 1}


def test_a_thermostat_without_hysteresis_is_refused():
    with pytest.raises(PlaygroundError, match="would switch at every decision"):
        thermostat(hysteresis=0.0)


def test_a_set_point_may_change_over_time():
    made, wrong = built(
        Thermostat,
        {
            "measure": "t",
            "command": "u",
            "setpoint": {"0s": "50 degC", "1min": "313.15 K"},
            "hysteresis": "2 K",
        },
    )
    assert wrong == []
    assert [made.step(t, {"t": 45})["u"] for t in (0, 59, 60, 120)] == [1, 1, 0, 0]


def curve(**changes):
    facts = {"outdoor": "t", "command": "wanted", "cold": -10.0, "mild": 20.0}
    return WeatherCompensation(**(facts | {"at_cold": 55.0, "at_mild": 25.0} | changes))


def test_the_heating_curve_is_a_line_with_flat_ends():
    said = [curve().step(0, {"t": t})["wanted"] for t in (-30, -10, 5, 20, 30)]
    assert said == pytest.approx([55, 55, 40, 25, 25])


def test_the_heating_curve_follows_the_weather_slowly():
    slow = curve(smoothing_s=3600.0)
    slow.step(0, {"t": 20})
    after = [slow.step(60 * k, {"t": -10})["wanted"] for k in range(1, 61)]
    assert after == sorted(after)
    assert 25 + 30 * (1 - math.exp(-1)) == pytest.approx(after[-1], abs=1)


def test_a_heating_curve_without_a_cold_end_is_refused():
    with pytest.raises(PlaygroundError, match="cold end is not colder"):
        curve(cold=25.0)


def pid(**changes):
    facts = {"measure": "t", "command": "u", "setpoint": 50.0, "kp": 0.1}
    return PID(**(facts | changes))


def test_without_integral_a_pid_is_proportional_and_clipped():
    assert played(pid(), [45, 48, 52, 0]) == [0.5, pytest.approx(0.2), 0.0, 1.0]


def test_the_integral_adds_error_over_time():
    said = played(pid(ti_s=100.0, start=0.5), [48, 48, 48])
    # Bumpless: the first output is the start; then 0.1 · 2 · 10 / 100 a step.
    assert said == pytest.approx([0.5, 0.52, 0.54])


def test_a_pid_does_not_wind_up():
    controller = pid(ti_s=100.0)
    played(controller, [0] * 500)
    after = [controller.step(5000 + 10 * k, {"t": 50.5})["u"] for k in range(3)]
    # Five hundred steps at the end stop leave nothing to unwind.
    assert after[0] == pytest.approx(1 - 0.1 * 50.5, abs=0.01) or after[0] == 0.0
    assert after[-1] == 0.0


def test_a_step_of_the_set_point_gives_no_kick_of_the_derivative():
    still = {"setpoint": "wanted", "kp": 0.01, "td_s": 100.0}
    with_td, without = pid(**still), pid(**(still | {"td_s": 0.0}))
    for controller in (with_td, without):
        controller.step(0, {"t": 40, "wanted": 40})
    values = {"t": 40, "wanted": 50}
    assert with_td.step(10, values) == without.step(10, values)


def test_the_derivative_brakes_a_rising_measurement():
    braked = played(pid(td_s=50.0), [40, 45])[1]
    assert braked < played(pid(), [40, 45])[1]


def test_a_negative_gain_cools():
    assert played(pid(kp=-0.1), [55, 45]) == [0.5, 0.0]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
def test_a_pid_stays_between_its_end_stops(values):
    controller = pid(ti_s=30.0, td_s=5.0, low=0.2, high=0.8)
    for said in played(controller, values):
        assert 0.2 <= said <= 0.8
        assert math.isfinite(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"low": 1.0, "high": 0.0}, "leave no room"),
        ({"kp": 0.0}, "a gain that is not 0"),
        ({"ti_s": 0.0}, "an integral time above 0"),
    ],
)
def test_a_pid_that_cannot_work_is_refused(changes, said):
    with pytest.raises(PlaygroundError, match=said):
        pid(**changes)


def test_a_schedule_says_what_its_table_says():
    table = {"0s": 0.1, "30s": 0.5, "1min": 0.2}
    schedule = Schedule(command="u", table=table, signals=SIGNALS)
    said = [schedule.step(t, {})["u"] for t in (0, 29, 30, 59.99, 60, 3600)]
    assert said == [0.1, 0.1, 0.5, 0.5, 0.2, 0.2]


def test_a_schedule_says_nothing_before_its_first_row():
    schedule = Schedule(command="u", table=[["1min", 0.5]], signals=SIGNALS)
    assert schedule.step(30, {}) == {}


def test_a_schedule_repeats():
    table = {"10s": 0.1, "20s": 0.9}
    schedule = Schedule(command="u", table=table, signals=SIGNALS, repeat_s=30.0)
    said = [schedule.step(t, {}).get("u") for t in (5, 10, 25, 30, 41, 55)]
    # In its second round the last row of the round before holds.
    assert said == [None, 0.1, 0.9, 0.9, 0.1, 0.9]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"table": {}}, "is not a table"),
        ({"table": [["0s"]]}, "is not a time and a value"),
        ({"table": {"0": 0.1}}, "has no unit"),
        ({"table": [["60s", 1], ["1min", 2]]}, "stands in the table twice"),
        ({"command": "flow", "table": {"0s": 1}}, "has no unit"),
        ({"table": {"0s": 0, "1h": 1}, "repeat_s": 60.0}, "repeats after"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(changes, said):
    with pytest.raises(PlaygroundError, match=said):
        Schedule(**({"command": "u", "signals": SIGNALS} | changes))


@pytest.mark.parametrize(
    "make",
    [
        thermostat,
        lambda: pid(ti_s=50.0, td_s=10.0),
        lambda: Schedule(command="u", table={"0s": 0.1, "20s": 1}, signals=SIGNALS),
    ],
    ids=["thermostat", "pid", "schedule"],
)
def test_reset_forgets_everything(make):
    controller = make()
    values = [40, 55, 49.5, 30, 70, 50]
    first = played(controller, values)
    controller.reset(seed=3)
    assert played(controller, values) == first == played(make(), values)


# -- parameters as people write them


def built(target, given, signals=SIGNALS):
    mistakes = []
    document = Document.parse("a: 1", "x.yaml")
    made = build(
        target,
        given,
        signals=signals,
        document=document,
        place=("controllers", 0),
        mistakes=mistakes,
    )
    return made, [m.text + " " + m.fix for m in mistakes]


def test_parameters_take_the_unit_of_the_signal_they_speak_of():
    made, wrong = built(
        Thermostat,
        {
            "measure": "t",
            "command": "u",
            "setpoint": "323.15 K",
            "hysteresis": "2 K",
            "period": "1min",
            "min_on": "5min",
        },
    )
    assert wrong == []
    assert made.period_s == 60
    assert played(made, [48.9, 51.1], 600) == [1, 0]


def test_every_wrong_parameter_is_named_at_once():
    made, wrong = built(
        Thermostat,
        {
            "measure": "tt",
            "command": "u",
            "hysteresis": 2,
            "perod": "1min",
            "cooling": "yes",
            "on": "0.7 l/s",
        },
    )
    assert made is None
    text = "\n".join(wrong)
    for part in (
        "There is no signal 'tt'",
        "the parameter 'setpoint' is missing",
        "unknown parameter 'perod'. Did you mean 'period'?",
        "'yes' should be true or false",
        "'l/s' does not convert to '1'",
    ):
        assert part in text, text


def test_a_name_that_ends_in_a_unit_may_be_written_with_or_without_it():
    class Tank:
        def __init__(
            self,
            *,
            start_degc: float = 20.0,
            loss_w_per_k: float = 1.0,
            age_s: float = 0.0,
            label: str = "",
            parts: int = 1,
        ):
            self.made = (start_degc, loss_w_per_k, age_s, label, parts)

    made, wrong = built(Tank, {"start": "300.15 K", "loss": "2 W/K", "age": "1min"})
    assert wrong == []
    assert made.made == (pytest.approx(27.0), 2.0, 60.0, "", 1)
    made, wrong = built(Tank, {"start_degc": 27, "age_s": 60, "label": "a", "parts": 3})
    assert made.made == (27.0, 1.0, 60.0, "a", 3)
    _, wrong = built(Tank, {"start": 27, "parts": 1.5, "label": 3})
    assert len(wrong) == 3


def test_the_parameters_of_a_class_are_listed_as_one_writes_them():
    assert "period" in parameters_of(Thermostat)
    assert "period_s" not in parameters_of(Thermostat)


@pytest.mark.parametrize(
    "make",
    [
        thermostat,
        lambda: pid(ti_s=50.0, td_s=10.0, setpoint="wanted"),
        lambda: Schedule(command="u", table={"0s": 0.1, "20s": 1}, signals=SIGNALS),
    ],
    ids=["thermostat", "pid", "schedule"],
)
def test_the_shipped_controllers_keep_the_rules(make):
    check_controller(make, SIGNALS)


# -- functions and generators ---------------------------------------------------


TANK = HeatedTank().signals
TOPIC = TANK["heater"].topic


def strategy(name, **given):
    return built(maker_of(getattr(own_strategies, name)), given, TANK)


def test_a_plain_function_is_a_controller():
    controller, wrong = strategy("two_point", below="40 degC", period="30s")
    assert wrong == []
    assert controller.measures == ("temp", "power")
    assert controller.period_s == 30.0
    assert controller.step(0.0, {"temp": 39.5}) == {"heater": 1.0}
    assert controller.step(0.0, {"temp": 40.5}) == {"heater": 0.0}


def test_a_function_says_in_the_scenario_what_it_sees_and_sets():
    controller, wrong = strategy("two_point", measures=["temp"], commands=["heater"])
    assert wrong == []
    assert (controller.measures, controller.commands) == (("temp",), ("heater",))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"below": "5 bar"}, "'bar' does not convert to 'degC'"),
        ({"bellow": "5 degC"}, "unknown parameter 'bellow'. Did you mean 'below'?"),
        ({"measures": ["tmp"]}, "There is no signal 'tmp'. Did you mean 'temp'?"),
        ({"measures": "temp"}, "'temp' is not a list of signals"),
        ({"period": "5"}, "has no unit"),
    ],
)
def test_wrong_parameters_of_a_function_are_named(given, said):
    controller, wrong = strategy("two_point", **given)
    assert controller is None
    assert said in wrong[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("confused", "wants to set 'temp', which is none of its commands"),
        ("speechless", "returned 1.0, which is not a mapping of commands"),
    ],
)
def test_a_function_that_answers_nonsense_is_told_so(name, said):
    controller, _ = strategy(name)
    with pytest.raises(PlaygroundError) as error:
        controller.step(0.0, {})
    assert said in str(error.value)


def test_a_function_that_makes_a_controller_is_not_one():
    assert is_strategy(own_strategies.two_point)
    assert is_strategy(own_strategies.pulses)
    assert not is_strategy(thermostat)
    assert not is_strategy(own_strategies.Pulses)


def course(controller, temperatures, until):
    clock = VirtualClock()
    bus = LocalBus(clock)
    said = []
    bus.observe(
        lambda m: said.append((clock.now, m.payload)) if m.topic == TOPIC else 0
    )
    plant = bus.connect("plant")
    ProcessLoop(controller, TANK, bus, clock)
    for time_s, value in temperatures:
        at = clock.at(time_s, phase=Phase.PUBLICATION)
        payload = TANK["temp"].encode(value)
        at.callbacks.append(lambda _, p=payload: plant.publish(TANK["temp"].topic, p))
    clock.run(until=until)
    return [(time_s, TANK["heater"].decode(payload)) for time_s, payload in said]


@pytest.mark.parametrize("kind", ["function", "class"])
def test_a_strategy_may_have_a_timing_of_its_own(kind):
    controller = own_strategies.Pulses(on_s=7.0)
    if kind == "function":
        controller, wrong = strategy("pulses", on="7s", measures=["temp"])
        assert wrong == []
    # It begins when it knows its measurement, and goes on when that is said again.
    said = course(controller, [(3.0, 30.0), (20.0, 30.0), (30.0, 50.0)], 60.0)
    assert said == [(3.0, 1.0), (10.0, 0.0), (20.0, 1.0), (27.0, 0.0)]


def test_a_strategy_hears_of_what_it_may_not_set_or_see():
    def wrong_set(env, plant):
        plant.set(tmp=1.0)
        yield env.timeout(1)

    def wrong_get(env, plant):
        plant["temperature"]
        yield env.timeout(1)

    for function, name in ((wrong_set, "'tmp'"), (wrong_get, "'temperature'")):
        with pytest.raises(PlaygroundError, match=name):
            course(Course(function, TANK, measures=["temp"]), [(0.0, 30.0)], 5.0)


@pytest.mark.parametrize(
    "make",
    [
        own_strategies.Pulses,
        lambda: strategy("pulses", measures=["temp"])[0],
        lambda: strategy("two_point")[0],
    ],
    ids=["class", "generator", "function"],
)
def test_strategies_of_ones_own_keep_the_rules(make):
    check_controller(make, TANK)


def test_a_strategy_that_forgets_nothing_breaks_the_rules():
    class Forgetful(own_strategies.Pulses):
        total = 0

        def process(self, env, plant):
            while True:
                self.total += 1
                plant.set(heater=self.total / 100)
                yield env.timeout(10)

    with pytest.raises(AssertionError, match="after a reset it decides otherwise"):
        check_controller(Forgetful, TANK)
