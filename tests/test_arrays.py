import subprocess
import sys

import numpy
import numpy.typing
import pytest

from playground.arrays import np, npt


def test_it_is_numpy():
    assert np.zeros is numpy.zeros
    assert np.random.default_rng is numpy.random.default_rng
    assert npt.NDArray is numpy.typing.NDArray
    with pytest.raises(AttributeError, match="no attribute 'zeroes'"):
        np.zeroes  # noqa: B018


def test_it_comes_with_the_first_array_and_then_costs_no_more_than_numpy():
    code = (
        "import sys\n"
        "from playground.arrays import np\n"
        "print('numpy' in sys.modules)\n"
        "np.zeros(1)\n"
        "print('numpy' in sys.modules, 'ones' in vars(np))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\nTrue True\n"
