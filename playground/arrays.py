"""Arrays of numbers: numpy, which is imported when the first of them is needed.

Half of the time that it takes to read a scenario would else go into importing
what only judging its run needs. Write ``from playground.arrays import np`` where
numbers are computed but not while the module itself is imported; type checkers
see numpy itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

__all__ = ["Array", "np", "npt"]

Array: TypeAlias = "npt.NDArray[np.float64]"
"""Of floats; its shape is said where it is used."""

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    from importlib import import_module
    from types import ModuleType

    def _later(name: str) -> ModuleType:
        """Returns a module that becomes the one of this name at first use."""
        module = ModuleType(name)

        def become(attribute: str) -> object:
            real = import_module(name)
            # From now on looking up costs what it costs in the real one.
            vars(module).update(vars(real))
            return getattr(real, attribute)

        # What a module does not have, it is asked for (PEP 562).
        module.__getattr__ = become
        return module

    np = _later("numpy")
    npt = _later("numpy.typing")
