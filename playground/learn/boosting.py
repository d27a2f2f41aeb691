"""Training of boosted trees on filtered inputs.

Gradient boosting on histograms (Friedman 2001; Ke et al. 2017), by scikit-learn.
What is kept are plain arrays of the nodes: stepping needs no scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from playground.learn.dataset import Segment
from playground.learn.filter_bank import Pairs

Array = npt.NDArray[Any]


def trained(
    folds: Sequence[Sequence[Segment]], settings: Mapping[str, Any], *, seed: int
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """Fits trees without each fold in turn, and to all data.

    Args:
        folds: Scaled blocks.
        settings: ``lags``, ``filters``, ``decays``, ``trees`` (per output),
            ``leaves`` and ``depth`` of each, ``rate``, ``fewest`` (examples in a
            leaf), ``share`` (of the features that a node may ask about), ``examples`` (drawn at least).
        seed: Of all that is drawn.

    Returns:
        Arrays of `playground.plants.learned.boosting.Boosting`, without the
        limits: one without each fold, and those of all data.
    """
    pairs = Pairs(folds, settings["filters"], settings["decays"], settings["lags"])

    def fit(out: int) -> dict[str, Array]:
        rng = np.random.default_rng([seed, out + 1])
        rows = pairs.rows(out)
        # Every row once at least, and each time from another beginning.
        rows = np.tile(rows, int(np.ceil(settings["examples"] / len(rows))))
        x, y = pairs.draw(rows, rng)
        return _boosted(x, y, settings)

    return [fit(out) for out in range(len(folds))], fit(-1)


def _boosted(x: Array, y: Array, settings: Mapping[str, Any]) -> dict[str, Array]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    feature, threshold, child, value, root, output, base = ([] for _ in range(7))
    depth, nodes = 1, 0
    for k in range(y.shape[1]):
        model = HistGradientBoostingRegressor(
            learning_rate=settings["rate"],
            max_iter=settings["trees"],
            max_leaf_nodes=settings["leaves"],
            max_depth=settings["depth"],
            min_samples_leaf=settings["fewest"],
            max_features=settings["share"],
            early_stopping=False,
            random_state=0,
        ).fit(x, y[:, k])
        # There is no public way to the trees; a test compares with `predict`.
        base.append(float(np.ravel(model._baseline_prediction)[0]))  # noqa: SLF001
        for (tree,) in model._predictors:  # noqa: SLF001
            found = _nodes(tree.nodes)
            root.append(nodes)
            output.append(k)
            feature.append(found["feature"])
            threshold.append(found["threshold"])
            child.append(found["child"] + nodes)
            value.append(found["value"])
            depth = max(depth, int(tree.nodes["depth"].max()))
            nodes += len(tree.nodes)
    return {
        "feature": np.concatenate(feature),
        "threshold": np.concatenate(threshold),
        "child": np.concatenate(child),
        "value": np.concatenate(value),
        "root": np.array(root, float),
        "output": np.array(output, float),
        "base": np.array(base),
        "depth": np.array([float(depth)]),
        "width": np.array([float(x.shape[1])]),
    }


def _nodes(tree: Array) -> dict[str, Array]:
    """Puts the nodes of a tree so that the children of each are neighbours."""
    order = [0]
    for place in order:
        if not tree["is_leaf"][place]:
            order += [int(tree["left"][place]), int(tree["right"][place])]
    where = np.empty(len(tree))
    where[order] = np.arange(len(order))
    leaf = tree["is_leaf"][order].astype(bool)
    return {
        "feature": np.where(leaf, 0.0, tree["feature_idx"][order]),
        "threshold": np.where(leaf, np.inf, tree["num_threshold"][order]),
        "child": np.where(leaf, where[order], where[tree["left"][order]]),
        "value": tree["value"][order],
    }
