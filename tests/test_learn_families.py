"""Every family: learns, runs free as a batch, and goes back to a snapshot."""

import numpy as np
import pytest

from playground.learn import boosting, grey_box, network
from playground.learn.candidates import (
    BOOSTING,
    FILTER_BANK,
    FOURIER,
    HISTORY,
    NETWORK,
    RESERVOIR,
    STATE_SPACE,
    Candidate,
    cost,
    geometric_mean,
    tried,
    worth_trying,
)
from playground.learn.dataset import Segment
from playground.learn.filter_bank import Pairs
from playground.learn.folds import (
    BRIEF,
    BRIEF_ROWS,
    RUNS,
    blocks_free_run,
    brief_starts,
    folds_of,
    later_starts,
    simplest,
)
from playground.learn.selection import _summing_up, selected
from playground.plants.learned.bank import GIVEN, Bank
from playground.plants.learned.combination import Combination
from playground.plants.learned.families import FAMILIES
from playground.plants.learned.network import Network

COMPARTMENTS = {
    "inputs": ["other", "other"],
    "outputs": ["temperature", "temperature"],
    "u_scale": [0.25, 0.25],
    "u_offset": [0.75, 0.75],
    "y_scale": [1.0, 1.0],
    "y_offset": [0.0, 0.0],
    "signs": [[0, 0], [0, 0]],
    "hidden": False,
}
SMALL = {
    "arx": {"na": 2, "nb": 2, "ridge": 1e-6},
    "fourier": {**FOURIER, "cosines": 40},
    "reservoir": {**RESERVOIR, "units": 40, "ridge": 1e-3},
    "filter bank": {
        **FILTER_BANK,
        "filters": [2, 8, 30],
        "decays": [5, 30],
        "hidden": 12,
        "rounds": 150,
        "batch": 64,
    },
    "boosting": {
        **BOOSTING,
        "filters": [2, 8, 30],
        "decays": [5, 30],
        "trees": 30,
        "leaves": 8,
        "examples": 1000,
    },
    "network": {**NETWORK, "hidden": 4, "batch": 16, "filters": [5], "memory": 1},
    "state space": {**STATE_SPACE, "order": 3, "horizon": 5},
    "grey box": COMPARTMENTS,
    "hybrid": {
        "base": COMPARTMENTS,
        "learned": {"family": "arx", "na": 2, "nb": 2, "ridge": 1e-4},
        "way": "residual",
    },
}


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    stages = tuple(
        network.Stage(horizon=h, rounds=r, rate=3e-3) for h, r in ((5, 40), (20, 20))
    )
    monkeypatch.setattr(network, "STAGES", stages)
    monkeypatch.setattr(grey_box, "STAGES", ((20, 3), (60, 4)))


def made_segments(rows=(260, 200, 150), seed=0):
    """A first-order plant with a saturating input, two outputs, scaled."""
    rng = np.random.default_rng(seed)
    segments = []
    for count in rows:
        u = np.repeat(rng.normal(size=(count // 15 + 1, 2)), 15, axis=0)[:count]
        y = np.zeros((count, 2))
        y[0] = rng.normal(size=2)
        for k in range(1, count):
            push = np.tanh(u[k, 0]) + 0.3 * u[k, 1]
            y[k, 0] = 0.9 * y[k - 1, 0] + 0.1 * push
            y[k, 1] = 0.95 * y[k - 1, 1] + 0.05 * y[k, 0]
        segments.append(
            Segment(t0=0.0, dt=1.0, u=u, y=y, inputs=("a", "b"), outputs=("c", "d"))
        )
    return segments


LIMITS = {"low": np.full(2, -3.0), "high": np.full(2, 3.0)}


@pytest.mark.parametrize("family", list(SMALL))
def test_a_family_learns_and_runs_free_better_than_the_mean(family):
    folds = folds_of(made_segments())
    candidate = tried(family, SMALL[family], folds, **LIMITS)
    spread = np.vstack([b.y for fold in folds for b in fold]).std(axis=0)
    assert (candidate.errors < 0.8 * spread).all()
    lengths = [len(b) - HISTORY for fold in folds for b in fold]
    assert [len(s) for s in candidate.said] == lengths
    lengths = [len(b) - HISTORY for fold in later_starts(folds) for b in fold]
    assert [len(s) for s in candidate.later] == lengths
    assert len(candidate.said) + len(candidate.later) >= RUNS * 0.8


@pytest.mark.parametrize("family", list(SMALL))
def test_a_family_learns_the_same_for_the_same_seed(family):
    first, second = (
        tried(family, SMALL[family], folds_of(made_segments()), **LIMITS)
        for _ in range(2)
    )
    for name, array in first.parameters.items():
        np.testing.assert_array_equal(array, second.parameters[name])


@pytest.mark.parametrize("family", list(SMALL))
def test_a_simulator_keeps_runs_apart_and_goes_back(family):
    folds = folds_of(made_segments())
    parameters = tried(family, SMALL[family], folds, **LIMITS).parameters
    rng = np.random.default_rng(3)
    u = rng.normal(size=(3, HISTORY + 30, 2))
    y = rng.normal(size=(3, HISTORY, 2))

    def begun(runs):
        simulator = FAMILIES[family](SMALL[family], parameters)
        h = simulator.history
        simulator.begin(u[runs, HISTORY - h : HISTORY], y[runs, HISTORY - h :])
        return simulator

    together = begun(slice(None))
    answers = [together.advance(u[:, HISTORY + k]) for k in range(10)]
    state = together.state()
    after = [together.advance(u[:, HISTORY + 10 + k]) for k in range(10)]
    together.set_state(state)
    again = [together.advance(u[:, HISTORY + 10 + k]) for k in range(10)]
    np.testing.assert_array_equal(after, again)
    alone = begun(slice(1, 2))
    for k in range(10):
        single = alone.advance(u[1:2, HISTORY + k])
        np.testing.assert_allclose(single[0], answers[k][1], rtol=1e-9, atol=1e-12)


def test_trees_answer_as_the_library_that_grew_them():
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(2)
    settings = {"lags": 2, "filters": [3], "decays": [5], "trees": 20, "leaves": 9}
    settings |= {"depth": 5, "rate": 0.2, "fewest": 5, "share": 1.0}
    # Two inputs: two lags, one filter; two outputs at the beginning, a decay, 1.
    x = rng.normal(size=(400, 2 * 3 + 3 + 1))
    y = np.stack([np.sin(x[:, 0]) + x[:, 2], np.abs(x[:, 4])], axis=1)
    arrays = boosting._boosted(x, y, settings)
    plant = FAMILIES["boosting"](settings, {**arrays, **LIMITS})
    plant.begin(np.zeros((400, 4, 2)), np.zeros((400, 4, 2)))
    plant._bank.with_inputs = lambda u: x
    said = plant.advance(np.zeros((400, 2)))
    for k in range(2):
        model = HistGradientBoostingRegressor(
            learning_rate=0.2,
            max_iter=20,
            max_leaf_nodes=9,
            max_depth=5,
            min_samples_leaf=5,
            early_stopping=False,
        ).fit(x, y[:, k])
        wanted = np.clip(model.predict(x), -3, 3)
        np.testing.assert_allclose(said[:, k], wanted, rtol=1e-9, atol=1e-12)


def test_gradients_through_the_simulation_are_those_of_finite_differences():
    settings = {**SMALL["network"], "na": 2, "nb": 2, "memory": 2, "filters": [4]}
    data = network.stacked([made_segments((60,))], 2, [4])
    data.y, data.e = data.y.astype(np.float64), data.e.astype(np.float64)
    rng = np.random.default_rng(1)
    width = 2 * 2 + 2 + data.e.shape[1]
    shapes = ((1, width, 4), (1, width, 3), (1, 3, 4), (1, width, 2))
    weights = [0.2 * rng.standard_normal(shape) for shape in shapes]
    chosen = np.array([[5, 12, 30]])
    noise = np.zeros((1, 3, 2, 2))
    horizon = 7

    def loss():
        arrays = dict(
            zip(("skeleton", "inner", "outer", "opening"), weights, strict=True)
        )
        arrays |= {"low": np.full(2, -1e9), "high": np.full(2, 1e9)}
        total = 0.0
        for start in chosen[0]:
            simulator = Network(settings, arrays)
            simulator._x = np.zeros((1, 1, width))
            x = simulator._x
            x[0, 0, :4] = np.concatenate([data.y[start - 1], data.y[start - 2]])
            x[0, 0, 6:] = data.e[start - 1]
            x[0, 0, 4:6] = x[0, 0] @ weights[3][0]
            for k in range(horizon):
                x[0, 0, 6:] = data.e[start + k]
                both = x @ np.concatenate([weights[0], weights[1]], axis=2)
                change = both[:, :, :4] + np.tanh(both[:, :, 4:]) @ weights[2]
                y = x[0, 0, :2] + change[0, 0, :2]
                x[0, 0, 4:6] += change[0, 0, 2:]
                x[0, 0, 2:4] = x[0, 0, :2]
                x[0, 0, :2] = y
                total += ((y - data.y[start + k]) ** 2).sum()
        return total / (horizon * chosen.shape[1])

    gradients = network._gradients(data, weights, chosen, noise, horizon, settings)
    for weight, gradient in zip(weights, gradients, strict=True):
        flat = weight.reshape(-1)
        for place in rng.choice(flat.size, 6, replace=False):
            kept, step = flat[place], 1e-4
            flat[place] = kept + step
            above = loss()
            flat[place] = kept - step
            below = loss()
            flat[place] = kept
            expected = (above - below) / (2 * step)
            assert gradient.reshape(-1)[place] == pytest.approx(
                expected, rel=2e-3, abs=2e-5
            )


def test_training_examples_are_what_the_simulator_will_see():
    (block,) = made_segments((120,))
    filters, decays = [2, 8, 30], [5, 30]
    pairs = Pairs([[block]], filters, decays)
    rows = np.array([20, 40, 90, 119])
    features, wanted = pairs.draw(rows, np.random.default_rng(2))
    np.testing.assert_allclose(wanted, block.y[rows], rtol=1e-6)
    for number, row in enumerate(rows):
        # The age of the run stands in the decays.
        fading = features[number, -3:-1]
        lag = round(-np.log(float(fading[1])) * 30)
        known = row - lag
        bank = Bank(filters, decays, inputs=2, outputs=2)
        first = known - GIVEN + 1
        bank.begin(block.u[None, first : known + 1], block.y[None, first : known + 1])
        for k in range(known + 1, row + 1):
            seen = bank.with_inputs(block.u[None, k])
        np.testing.assert_allclose(features[number], seen[0], rtol=1e-4, atol=1e-5)


def test_folds_hold_every_row_once_and_are_about_equal():
    segments = made_segments((900, 300, 310, 290))
    folds = folds_of(segments)
    rows = [sum(len(b) for b in fold) for fold in folds]
    assert sum(rows) == 1800
    assert max(rows) <= 1.5 * min(450, 1800 / 4)
    assert all(len(b) <= 475 for fold in folds for b in fold)


def test_each_of_a_few_experiments_is_a_fold_of_its_own():
    segments = made_segments((300, 100, 250, 200, 150, 90))
    folds = folds_of(segments)
    assert [[len(b) for b in fold] for fold in folds] == [
        [300],
        [100],
        [250],
        [200],
        [150],
        [90],
    ]
    # One that has most of the rows cannot be left out as a whole.
    assert len(folds_of(made_segments((900, 100, 90, 90, 90)))) == 4
    # Many are put together.
    assert len(folds_of(made_segments((60,) * 9))) == 4


def test_the_simplest_is_chosen_that_folds_cannot_tell_from_the_best():
    best = [0.5, 0.2, 0.4, 0.3]
    alike = [0.45, 0.24, 0.4, 0.32]
    worse = [0.55, 0.25, 0.5, 0.4]
    assert simplest([worse, alike, best]) == 1
    assert simplest([best, alike, worse]) == 0
    assert simplest([worse, best]) == 1
    assert simplest([[0.3], [0.2]]) == 1


def test_blocks_of_different_length_run_side_by_side_as_they_would_alone():
    folds = folds_of(made_segments())
    parameters = tried("arx", SMALL["arx"], folds, **LIMITS).parameters
    blocks = made_segments((50, 80, 30), seed=5)
    simulator = FAMILIES["arx"](SMALL["arx"], parameters)
    together = blocks_free_run(simulator, blocks, history=HISTORY)
    for block, said in zip(blocks, together, strict=True):
        (alone,) = blocks_free_run(simulator, [block], history=HISTORY)
        np.testing.assert_allclose(said, alone, rtol=1e-12, atol=1e-12)


def test_a_larger_budget_tries_all_that_a_smaller_one_does():
    before = []
    for budget in (0.01, 1.0, 10.0, 60.0, 600.0):
        ladder = worth_trying(rows=20_000, budget_s=budget, columns=COMPARTMENTS)
        assert ladder[: len(before)] == before
        spent = sum(cost(f, s, 20_000) for f, s in ladder)
        assert len(ladder) == 1 or spent <= 2 * budget
        before = ladder
    assert {f for f, _ in before} == set(FAMILIES)


def test_members_that_are_far_behind_have_no_say():
    segments = made_segments()
    folds = folds_of(segments)
    good = tried("arx", SMALL["arx"], folds, **LIMITS)
    bad = tried("arx", {"na": 1, "nb": 1, "ridge": 10.0}, folds, **LIMITS)
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [k for k, fold in enumerate(folds) for _ in fold]
    chosen = selected([bad, good], truth, owner)
    assert [m is good for m in chosen.members] == [True]
    np.testing.assert_allclose(chosen.weights, [[1.0, 1.0]])
    np.testing.assert_allclose(chosen.errors, good.errors)
    np.testing.assert_allclose(
        geometric_mean([np.array([1.0, 4.0]), np.array([4.0, 4.0])]), [2.0, 4.0]
    )


def test_what_is_no_better_than_plain_arx_by_more_than_chance_stays_plain_arx():
    folds = folds_of(made_segments())
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [k for k, fold in enumerate(folds) for _ in fold]
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(t.shape) for t in truth]

    def made(family, error):
        said = [t + error[f] * n for t, n, f in zip(truth, noise, owner, strict=True)]
        wrong = [
            np.sqrt(((s - t) ** 2).mean(axis=0))
            for s, t in zip(said, truth, strict=True)
        ]
        return Candidate(
            family=family,
            settings={},
            parameters={},
            said=said,
            later=[],
            errors=geometric_mean(wrong),
            seconds=0.0,
        )

    arx = made("arx", [0.1] * 4)
    lucky = made("fourier", [0.05, 0.18, 0.05, 0.18])
    chosen = selected([arx, lucky], truth, owner)
    assert chosen.plain == (0, 1)
    for table in (chosen.weights, *chosen.weights_without.values()):
        np.testing.assert_allclose(table.sum(axis=0), 1.0)
    assert [m is arx for m in chosen.members] == [True]
    np.testing.assert_allclose(np.vstack(chosen.said), np.vstack(arx.said))
    # Folds that are experiments of their own say enough.
    assert selected([arx, lucky], truth, owner, cut=False).plain == ()
    # One fold on which ARX is far off must not hide that it is worse on all.
    for errors in ([0.04] * 4, [0.001, 0.07, 0.08, 0.08]):
        good = made("fourier", errors)
        chosen = selected([arx, good], truth, owner)
        assert chosen.plain == ()
        assert any(m is good for m in chosen.members)


def test_who_says_what_another_says_is_not_heard_twice():
    folds = folds_of(made_segments())
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [k for k, fold in enumerate(folds) for _ in fold]
    rng = np.random.default_rng(0)

    def made(family, said):
        return Candidate(
            family=family,
            settings={},
            parameters={},
            said=said,
            later=[],
            errors=np.array([0.1, 0.1]),
            seconds=0.0,
        )

    one, other = (
        [t + 0.1 * rng.standard_normal(t.shape) for t in truth] for _ in range(2)
    )
    # The hybrid's learned part helps for the second output alone.
    mixed = [
        np.stack([a[:, 0], b[:, 1]], axis=1) for a, b in zip(one, other, strict=True)
    ]
    base, network = made("grey box", one), made("network", other)
    alone = selected([base, network], truth, owner)
    chosen = selected([base, made("hybrid", mixed), network], truth, owner)
    weights = {m.family: w for m, w in zip(chosen.members, chosen.weights, strict=True)}
    assert weights["grey box"][0] > 0.3
    assert weights.get("hybrid", [0.0])[0] == 0
    np.testing.assert_allclose(weights["grey box"][0], alone.weights[0][0], atol=1e-6)


def test_the_best_alone_has_the_say_where_folds_are_sure():
    folds = folds_of(made_segments())
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [k for k, fold in enumerate(folds) for _ in fold]
    rng = np.random.default_rng(0)
    hard = [rng.standard_normal(t.shape) for t in truth]

    def made(family, size):
        # Each is wrong where the best is, and more.
        said = [
            t + 0.1 * h + size * rng.standard_normal(t.shape)
            for t, h in zip(truth, hard, strict=True)
        ]
        return Candidate(
            family=family,
            settings={},
            parameters={},
            said=said,
            later=[],
            errors=np.sqrt(np.array([0.01, 0.01]) + size**2),
            seconds=0.0,
        )

    best, other = made("boosting", 0.0), made("network", 0.06)
    chosen = selected([best, other], truth, owner)
    weights = {m.family: w for m, w in zip(chosen.members, chosen.weights, strict=True)}
    assert (weights["boosting"] > 0.85).all()


def test_the_median_takes_the_middle_of_those_who_have_a_weight():
    weights = np.array([[0.5, 0.2], [0.25, 0.4], [0.25, 0.4], [0.0, 0.0]])
    answers = np.array([[[1.0, 1.0]], [[2.0, 2.0]], [[9.0, 9.0]], [[50.0, 50.0]]])
    said = Combination(weights, np.array([0.0, 1.0]))(answers)
    np.testing.assert_allclose(said, [[3.25, 2.0]])
    two = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0]])
    said = Combination(two, np.array([1.0, 1.0]))(answers)
    np.testing.assert_allclose(said, [[1.5, 1.5]])


def test_the_median_is_chosen_where_one_or_another_is_led_astray():
    folds = folds_of(made_segments())
    truth = [b.y[HISTORY:] for fold in folds for b in fold]
    owner = [k for k, fold in enumerate(folds) for _ in fold]
    rng = np.random.default_rng(0)

    def made(astray):
        return Candidate(
            family="network",
            settings={},
            parameters={},
            said=[
                t
                + 0.1 * rng.standard_normal(t.shape)
                + astray * (rng.random(t.shape) < 0.05)
                for t in truth
            ],
            later=[],
            errors=np.full(2, 0.1 + astray),
            seconds=0.0,
        )

    wild = selected([made(5.0) for _ in range(4)], truth, owner)
    assert wild.median.tolist() == [1.0, 1.0]
    calm = selected([made(0.0) for _ in range(4)], truth, owner)
    assert calm.median.tolist() == [0.0, 0.0]


def test_runs_begin_within_blocks_too_and_are_short_where_there_are_many():
    few = later_starts(folds_of(made_segments((260, 200))))
    assert sum(len(fold) for fold in few) >= 0.8 * RUNS - 8
    many = folds_of(made_segments((400,) * RUNS))
    later = later_starts(many)
    assert [len(m) for m in later] == [3 * len(fold) for fold in many]
    assert max(len(b) for fold in later for b in fold) < 200


def test_brief_runs_are_many_and_begin_all_over_each_fold():
    folds = folds_of(made_segments((260, 200, 30)))
    brief = brief_starts(folds)
    assert [len(more) for more in brief] == [
        min(BRIEF, sum(max(len(b) - 32, 0) for b in fold)) for fold in folds
    ]
    for fold, more in zip(folds, brief, strict=True):
        assert {len(b) for b in more} <= set(range(32, BRIEF_ROWS + 1))
        # None from the very beginning: that is the run of the block itself.
        first = min(b.t0 for b in more)
        assert first == min(b.t0 + b.dt for b in fold if len(b) > 32)
        assert len({b.t0 for b in more}) > 0.5 * len(more)
    assert brief_starts([[], folds[0]])[0] == []
    (block,) = made_segments((33,))
    assert [len(b) for b in brief_starts([[block]])[0]] == [32]


@pytest.mark.parametrize("short", [0, 5, 40])
@pytest.mark.parametrize("long", [(120,), (61, 60), (60, 30, 31), (60, 16, 17, 18, 19)])
def test_segments_too_short_to_use_leave_no_fold_empty(long, short):
    folds = folds_of(made_segments((*long, *[15] * short)))
    assert all(folds)
    assert min(len(b) for fold in folds for b in fold) >= 16


def test_weights_of_those_who_stay_sum_up_to_one_again():
    table = np.array([[0.3, 0.0, 1.0], [0.2, 0.0, 0.0]])
    otherwise = np.array([[0.6, 0.9, 0.5], [0.4, 0.1, 0.5]])
    summing = _summing_up(table, otherwise)
    np.testing.assert_allclose(summing, [[0.6, 0.9, 1.0], [0.4, 0.1, 0.0]])
