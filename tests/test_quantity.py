import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import playground.quantity as quantity_module
from playground.errors import PlaygroundError
from playground.quantity import check_unit, convert, quantity, say_seconds, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10min", 600),
        ("1h30min", 5400),
        ("1 h 30 min", 5400),
        ("500ms", 0.5),
        ("2d", 172_800),
        (".5s", 0.5),
        ("0s", 0),
    ],
)
def test_a_duration_is_read(text, value):
    assert seconds(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("10", "Duration '10' has no unit.", "write '10s', '10min' or '10h'"),
        (10, "Duration 10 has no unit.", "write '10s' or '10min'"),
        ("10 minn", "'minn' is not a unit of time", "10min"),
        ("", "empty", "10min"),
        ("soon", "'soon' is not a duration", "10min"),
        ("-5s", "'-5s' is not a duration", "10min"),
    ],
)
def test_a_wrong_duration_is_refused_with_a_fix(text, problem, fix):
    with pytest.raises(PlaygroundError) as error:
        seconds(text)
    assert problem in error.value.problem
    assert fix in error.value.fix


def test_the_nearest_unit_of_time_is_proposed():
    with pytest.raises(PlaygroundError, match="Did you mean 'min'"):
        seconds("10minn")


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("50 degC", "degC", 50),
        ("50degC", "degC", 50),
        ("323.15 K", "degC", 50),
        ("122 degF", "degC", 50),
        ("1.5 kW", "W", 1500),
        ("6 l/min", "l/s", 0.1),
        ("0.5", "1", 0.5),
        (0.25, "1", 0.25),
        ("-3e-1 bar", "kPa", -30),
        ("50 %", "1", 0.5),
    ],
)
def test_a_quantity_is_converted_to_the_signals_unit(text, unit, value):
    assert quantity(text, unit) == pytest.approx(value, rel=1e-9)


def test_a_difference_of_temperatures_has_no_zero_point():
    assert quantity("2 K", "degC", difference=True) == 2
    assert quantity("2 degC", "degC", difference=True) == 2
    assert quantity("3.6 degF", "degC", difference=True) == pytest.approx(2)


def test_a_number_without_a_unit_is_refused_where_the_signal_has_one():
    with pytest.raises(PlaygroundError) as error:
        quantity("50", "degC")
    assert str(error.value) == (
        "'50' has no unit, but must be in degC.\n  fix: write '50 degC'"
    )


def test_units_that_do_not_convert_are_refused():
    with pytest.raises(PlaygroundError, match="'bar' does not convert to 'degC'"):
        quantity("5 bar", "degC")


def test_an_unknown_unit_is_refused_with_the_nearest_one():
    with pytest.raises(PlaygroundError, match="Did you mean 'degC'"):
        check_unit("degc")


@pytest.mark.parametrize("text", ["nan degC", "warm", "inf K", ""])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(PlaygroundError):
        quantity(text, "degC")


@given(st.floats(-200, 2000))
def test_converting_there_and_back_changes_nothing(value):
    there = convert(value, "degC", "degF")
    assert math.isclose(convert(there, "degF", "degC"), value, abs_tol=1e-9)


def test_durations_are_said_for_people():
    said = [say_seconds(s) for s in (0.5, 59, 61, 3723, 200_000, -61)]
    assert said == ["0.5 s", "59 s", "0:01:01", "1:02:03", "2 d 7:33:20", "-0:01:01"]


def test_the_table_of_usual_units_says_what_pint_says(monkeypatch):
    units = quantity_module._TO_SI
    pairs = [
        (a, b, difference)
        for a in units
        for b in units
        if units[a][0] == units[b][0]
        for difference in (False, True)
    ]
    convert = quantity_module._conversion.__wrapped__
    fast = [convert(a, b, difference=d) for a, b, d in pairs]
    monkeypatch.setattr(quantity_module, "_TO_SI", {})
    for (a, b, difference), expected in zip(pairs, fast, strict=True):
        said = convert(a, b, difference=difference)
        assert said == pytest.approx(expected, rel=1e-11, abs=1e-11), (a, b)


def test_what_the_table_does_not_convert_pint_does_not_either(monkeypatch):
    units = quantity_module._TO_SI
    apart = [(a, b) for a in units for b in units if units[a][0] != units[b][0]]
    convert = quantity_module._conversion.__wrapped__

    def refused(a, b):
        with pytest.raises(PlaygroundError) as error:
            convert(a, b, difference=False)
        return str(error.value)

    fast = [refused(a, b) for a, b in apart]
    monkeypatch.setattr(quantity_module, "_TO_SI", {})
    assert [refused(a, b) for a, b in apart] == fast


def test_a_difference_may_be_written_in_either_unit_of_temperature():
    # As a difference 3 degC cannot mean anything but 3 K.
    assert quantity("3 degC", "degC", difference=True) == 3.0
    assert quantity("3 K", "degC", difference=True) == 3.0


def test_a_difference_that_does_not_convert_is_told_in_kelvin():
    with pytest.raises(PlaygroundError, match="'kg' does not convert to 'K'") as error:
        quantity("3 kg", "degC", difference=True)
    assert "write the value in K " in error.value.fix
