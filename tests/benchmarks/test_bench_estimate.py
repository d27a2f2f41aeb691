"""How often the truth lies inside the 95 % intervals, over many seeds of noise.

Two hours of an experiment on the simulated rig, with its sensors' noise, lags and
registers; five parameters and the temperature at the start are sought. The short
form runs two seeds, from starts that are a tenth off; the full one begins nearer, to
be done sooner, and prints the figures::

    nice -n 10 python tests/benchmarks/test_bench_estimate.py 100
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pytest
from lab_experiment import record_rig

from playground.estimate import estimate

TRUTH = {
    "ua_hx_w_per_k": 2400.0,
    "carnot_fraction": 0.5,
    "flow_span_kg_per_s": 1.5,
    "ua_tower_w_per_k": 1130.0,
    "tank_water_kg": 200.0,
}
OUTPUTS = ("buffer_temp", "water_outlet", "water_inlet", "power", "cold_in_temp")
OUTPUTS += ("hot_out_temp", "flow_1_current", "coil_1")


def one_seed(seed, folder, *, start=1.1):
    """Returns each parameter's error relative to the truth, and if it is covered."""
    recording = record_rig(folder / f"rig-{seed}.parquet", seed=seed)
    found = estimate(
        [recording],
        plant="lab_rig",
        parameters=list(TRUTH),
        settings={name: value * start for name, value in TRUTH.items()},
        outputs=OUTPUTS,
    )
    errors = [found[name].value / truth - 1.0 for name, truth in TRUTH.items()]
    inside = [
        found[name].low <= truth <= found[name].high for name, truth in TRUTH.items()
    ]
    deviations = [found[name].deviation for name in TRUTH]
    return np.array(errors), np.array(inside), np.array(deviations)


@pytest.mark.slow
def test_truth_lies_inside_the_intervals_and_within_five_percent(tmp_path):
    results = [one_seed(seed, tmp_path) for seed in (1, 2)]
    assert max(np.abs(errors).max() for errors, _, _ in results) < 0.05
    covered = np.mean([inside for _, inside, _ in results])
    print(f"{covered:.0%} of {2 * len(TRUTH)} intervals hold the truth")
    # Chance that three of ten honest intervals miss: one in a hundred.
    assert covered >= 0.8


def main(first: int, last: int) -> None:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            began = time.process_time()
            found.append(one_seed(seed, Path(folder), start=1.02))
            (Path(folder) / f"rig-{seed}.parquet").unlink()
            errors, inside, _ = found[-1]
            print(
                f"seed {seed}: worst error {np.abs(errors).max():.2%}, inside "
                f"{''.join('x' if one else '.' for one in inside)}, "
                f"{time.process_time() - began:.0f} s",
                flush=True,
            )
    errors, inside, deviations = (np.array(part) for part in zip(*found, strict=True))
    for i, name in enumerate(TRUTH):
        print(
            f"{name:<22} inside {inside[:, i].sum()} of {len(found)}, worst error "
            f"{np.abs(errors[:, i]).max():.3%}, scatter {errors[:, i].std():.4%}, "
            f"deviation claimed {deviations[:, i].mean():.4%}"
        )


if __name__ == "__main__":
    bounds = [int(text) for text in sys.argv[1:]] or [100]
    main(*(bounds if len(bounds) == 2 else [0, bounds[0]]))
