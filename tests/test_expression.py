import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.errors import PlaygroundError
from playground.expression import parse
from playground.signals import Signal, Signals


def signal(name, unit, **more):
    return Signal(name=name, topic=name, unit=unit, role="measurement", **more)


SIGNALS = Signals(
    [
        signal("outlet", "degC"),
        signal("inlet", "degC"),
        signal("superheat", "K"),
        signal("flow", "l/s", range=(0, 2)),
        signal("power", "W"),
        signal("heat", "kW"),
        signal("on", "1"),
    ]
)
NAN = float("nan")


def ask(text, times=None, **values):
    expression = parse(text, SIGNALS)
    columns = {k: np.atleast_1d(np.array(v, float)) for k, v in values.items()}
    count = len(next(iter(columns.values()))) if columns else 1
    axis = np.arange(count, dtype=float) if times is None else np.array(times, float)
    return expression.evaluate(axis, columns)


def one(text, **values):
    """Returns (true or None where unknown, margin)."""
    truth = ask(text, **values)
    return (bool(truth.true[0]) if truth.known[0] else None, float(truth.margin[0]))


@pytest.mark.parametrize(
    ("text", "values", "true", "margin"),
    [
        ("outlet > 65 degC", {"outlet": 66}, True, 1),
        ("outlet > 65 degC", {"outlet": 65}, False, 0),
        ("outlet >= 65 degC", {"outlet": 65}, True, 0),
        ("outlet < 338.15 K", {"outlet": 60}, True, 5),
        ("65 degC < outlet", {"outlet": 66}, True, 1),
        ("40 degC < outlet <= 50 degC", {"outlet": 48}, True, 2),
        ("flow in 0.1..0.6 l/s", {"flow": 0.2}, True, 0.1),
        ("flow in 6 l/min..36 l/min", {"flow": 0.05}, False, -0.05),
        ("flow not in 0.1..0.6 l/s", {"flow": 0.05}, True, 0.05),
        ("outlet - inlet > 5 K", {"outlet": 50, "inlet": 44}, True, 1),
        ("outlet - inlet > 5 degC", {"outlet": 50, "inlet": 44}, True, 1),
        ("inlet + 5 K < outlet", {"outlet": 50, "inlet": 44}, True, 1),
        ("outlet - 5 K > inlet", {"outlet": 50, "inlet": 44}, True, 1),
        ("5 K + inlet < outlet", {"outlet": 50, "inlet": 44}, True, 1),
        ("superheat < 5 K", {"superheat": 3}, True, 2),
        ("abs(outlet - inlet) < 5 K", {"outlet": 40, "inlet": 44}, True, 1),
        ("max(outlet, inlet) < 50 degC", {"outlet": 40, "inlet": 44}, True, 6),
        (
            "min(outlet, inlet, 30 degC) < 50 degC",
            {"outlet": 40, "inlet": 44},
            True,
            20,
        ),
        ("power < 2 kW", {"power": 1500}, True, 500),
        ("heat * 1000 > power", {"heat": 1, "power": 1e6 - 1}, True, 0.001),
        ("heat / power > 3", {"heat": 8, "power": 2000}, True, 1),
        ("heat / flow > 7 kJ/l", {"heat": 8, "flow": 1}, True, 1),
        ("2 * power < 4 kW", {"power": 1500}, True, 1000),
        ("-superheat < -2 K", {"superheat": 3}, True, 1),
        ("on == 1", {"on": 1}, True, np.inf),
        ("on == 1", {"on": 0}, False, -np.inf),
        ("on != 1", {"on": 0}, True, np.inf),
        ("not on == 1", {"on": 0}, True, np.inf),
        ("on == 0 or flow > 0.1 l/s", {"on": 1, "flow": 0.3}, True, 0.2),
        ("on == 0 or flow > 0.1 l/s", {"on": 0, "flow": 0.0}, True, np.inf),
        ("outlet > 10 degC and inlet > 10 degC", {"outlet": 15, "inlet": 12}, True, 2),
        (
            "not (outlet > 10 degC or inlet > 10 degC)",
            {"outlet": 5, "inlet": 2},
            True,
            5,
        ),
        # Two units: shares of the range, or of the limit where there is none.
        ("flow < 1 l/s and outlet < 50 degC", {"flow": 0.5, "outlet": 40}, True, 0.2),
    ],
)
def test_an_expression_is_true_by_a_margin(text, values, true, margin):
    found = one(text, **values)
    assert found[0] is true
    assert found[1] == pytest.approx(margin, abs=1e-9)


def test_the_unit_of_the_margin_is_that_of_the_left_side():
    units = {
        "outlet > 65 degC": "K",
        "flow > 1 l/min": "l/s",
        "on == 1": None,
        "on == 1 and flow > 1 l/s": "l/s",
        "outlet > 1 degC and flow > 1 l/s": "1",
        "heat/power > 3": "1",
        "heat/flow > 3 kW*s/l": "(kW)/(l/s)",
        "rate(outlet, 1min) < 2 K/min": "K/s",
    }
    assert {text: parse(text, SIGNALS).unit for text in units} == units


def test_what_is_not_known_is_neither_true_nor_false():
    assert one("outlet > 1 degC", outlet=NAN)[0] is None
    both = {"outlet": NAN, "inlet": 0}
    # Kleene: one part can decide alone.
    assert one("outlet > 1 degC and inlet > 1 degC", **both)[0] is False
    assert one("outlet > 1 degC or inlet > 1 degC", **both)[0] is None
    assert one("outlet > 1 degC or inlet < 1 degC", **both)[0] is True
    assert one("not outlet > 1 degC", **both)[0] is None
    assert one("on == 1", on=NAN)[0] is None


def test_the_rate_is_the_change_over_its_window():
    truth = ask(
        "rate(outlet, 10s) <= 6 K/min",
        times=[0, 5, 10, 15, 20],
        outlet=[20, 20, 21, 22, 22],
    )
    assert truth.known.tolist() == [False, False, True, True, True]
    assert truth.true.tolist()[2:] == [True, False, True]
    assert truth.margin[2:] == pytest.approx([0, -0.1, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not an expression"),
        ("outlet", "this is a value in degC, not something true or false"),
        ("outlt > 5 degC", "there is no signal 'outlt'. Did you mean 'outlet'?"),
        ("outlet > 5", "5 has no unit, but it stands beside a value in degC"),
        ("outlet - inlet > 5", "write '5 K'"),
        ("outlet > 5 bar", "'bar' does not convert to 'degC'"),
        ("outlet > 5 degc", "'degc' is not a unit. Did you mean 'degC'?"),
        ("outlet > ", "it ends too early"),
        ("outlet > 5 degC and", "it ends too early"),
        ("outlet = 5 degC", "write == to compare"),
        ("outlet > 5 degC && on == 1", "write and"),
        ("outlet > 5 degC || on == 1", "write or"),
        ("!(on == 1)", "write not"),
        ("flow in 0.6..0.1 l/s", "runs backwards"),
        ("flow in 0.1 l/s", "'..' is missing"),
        ("(flow > 1 l/s", "')' is missing"),
        ("flow > 1 l/s)", "')' was not expected here"),
        ("outlet + inlet > 5 degC", "two temperatures in degC cannot be added"),
        ("outlet * 2 > 5 degC", "cannot be multiplied"),
        ("sqrt(flow) > 1", "there is no function 'sqrt'"),
        ("rate(outlet) > 1 K/s", "rate needs the time over which to look"),
        ("rate(outlet, 5) > 1 K/s", "has no unit"),
        ("on == 1 + (flow > 1 l/s)", "true or false stands where a value is needed"),
        ("__import__('os') == 1", "there is no function '__import__'"),
        ("outlet.__class__ == 1", "has no meaning here"),
        ("outlet > 5 degC; on == 1", "has no meaning here"),
        ("lambda: 1", "has no meaning here"),
        ("(" * 200 + "on == 1" + ")" * 200, "more than 40 levels"),
        ("not " * 200 + "on == 1", "more than 40 levels"),
        ("-" * 200 + "flow > 1 l/s", "more than 40 levels"),
        ("flow > 1 l/s and flow", "this is a value in l/s"),
        ("1 / 0 > flow", "division by zero"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_what_to_write(text, said):
    with pytest.raises(PlaygroundError) as error:
        parse(text, SIGNALS)
    assert said in str(error.value)


@given(
    st.text(alphabet="outlet flow>0.5<=()+-*/ degC l/s and or not in..1", max_size=60)
)
def test_no_text_breaks_the_parser(text):
    try:
        expression = parse(text, SIGNALS)
    except PlaygroundError:
        return
    values = {name: np.array([1.0, NAN]) for name in expression.signals}
    truth = expression.evaluate(np.array([0.0, 1.0]), values)
    assert truth.margin.shape == (2,)


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-100, 100))
def test_the_sign_of_the_margin_is_the_verdict(a, b, limit):
    values = {"outlet": a, "inlet": b}
    for text in (
        f"outlet > {limit!r} degC and inlet <= 5 degC".replace("> -", "> -"),
        f"outlet > {limit!r} degC or not inlet <= 5 degC",
    ):
        true, margin = one(text, **values)
        assert margin >= 0 if true else margin <= 0
