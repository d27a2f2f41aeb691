"""What is left over of a balance of powers, in the data and in what a plant says."""

import dataclasses

import numpy as np
import pytest

from playground.errors import PlaygroundError
from playground.learn import balance, learn_segments
from playground.learn.card import written
from playground.learn.dataset import Segment
from playground.model import load_model, save_model
from playground.signals import Signal, Signals
from playground.signals_file import load_signals

CP = 4186.0
LOOP = "flow * 4186 J/kg/K * (supply - back) == heat"


def signals_of(**balances):
    def signal(name, unit, role="measurement"):
        return Signal(name=name, topic=name, unit=unit, role=role)

    return Signals(
        [
            signal("heat", "kW", "command"),
            signal("flow", "kg/min", "disturbance"),
            signal("supply", "degC"),
            signal("back", "degC"),
        ],
        balances=balances,
    )


def heated(rows=300):
    """A loop that carries off what heats it, without any delay of the supply."""
    rng = np.random.default_rng(0)
    heat = np.repeat(rng.uniform(1.0, 5.0, rows // 15), 15)
    flow = 12.0 + 2.0 * np.sin(np.arange(rows) / 40)
    back = 30.0 + np.convolve(heat, np.ones(20) / 20)[:rows]
    supply = back + 1000 * heat / (flow / 60 * CP)
    return Segment(
        t0=0.0,
        dt=10.0,
        u=np.stack([heat, flow], axis=1),
        y=np.stack([supply, back], axis=1),
        inputs=("heat", "flow"),
        outputs=("supply", "back"),
    )


@pytest.fixture(scope="module")
def model():
    return learn_segments([heated()], signals_of(loop=LOOP), budget_s=0.1, jobs=1)


def test_the_card_says_what_is_left_over(model, tmp_path):
    (found,) = model.card["balances"]
    assert found["balance"] == "loop"
    assert found["flow_w"] == pytest.approx(3200, rel=0.3)
    assert found["data"]["rms_w"] < 1e-6
    assert 0 < found["plant"]["rms_w"] < 0.2 * found["flow_w"]
    assert not found["off"]
    page = written(model, [heated()])["card.md"]
    assert f"| loop: `{LOOP}` |" in page
    assert "**loop" not in page
    save_model(model, tmp_path / "loop")
    assert load_model(tmp_path / "loop").signals.balances == {"loop": LOOP}


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_a_plant_that_makes_heat_of_nothing_is_named(monkeypatch, model, shift):
    segment = heated()
    plant = balance.LearnedPlant(model)
    shifted = segment.y + np.array([shift, 0.0])
    monkeypatch.setattr(balance, "free_runs", lambda *_: [shifted])
    found = balance.closed(plant, [segment])
    rows = segment.u[model.history :, 1]
    more = shift * CP * rows.mean() / 60
    assert found[0]["plant"]["mean_w"] == pytest.approx(more)
    assert f"**loop: {more:+.4g} W** in free run" in "\n".join(balance.told(found))


def test_where_a_side_is_never_known_the_card_says_nothing_of_it(model):
    signals = signals_of(stored="heat == 9 kJ/K * rate(back, 2h)")
    never = dataclasses.replace(model, signals=signals)
    (found,) = balance.closed(balance.LearnedPlant(never), [heated()])
    assert (found["rows"], found["off"]) == (0, False)
    assert "` | - | - | - | - | - |" in "\n".join(balance.told([found]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heat", "what equals what"),
        ("heat == heat == heat", "what equals what"),
        ("heat == flaw * 4186 J/kg/K * (supply - back)", "Did you mean 'flow'"),
        ("flow * (supply - back) == heat", "'loop'.*does not convert"),
    ],
)
def test_what_is_no_balance_of_powers_is_refused(text, said):
    with pytest.raises(PlaygroundError, match=said):
        balance.balances_of(signals_of(loop=text))


def test_without_a_balance_the_card_is_as_ever():
    model = learn_segments([heated()], signals_of(), budget_s=0.1, jobs=1)
    assert "balances" not in model.card
    assert "Energy balance" not in written(model, [])["card.md"]


def test_a_signals_file_declares_them(tmp_path):
    path = tmp_path / "loop.yaml"
    begin = "signals:\n  heat: {topic: h, unit: kW, role: command}\n"
    path.write_text(begin + "balances:\n  loop: heat == 3 kW\n")
    assert load_signals(path).balances == {"loop": "heat == 3 kW"}
    path.write_text(begin + "balances: heat == 3 kW\n")
    with pytest.raises(PlaygroundError, match=r"loop.yaml:3: balances: .*not a block"):
        load_signals(path)
