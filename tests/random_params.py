"""Parameters for tests, drawn with NumPy: nothing is compiled, and none is zero or one."""

from typing import Any

import jax
import numpy as np


def random_params(module: Any, *args: Any, scale: float = 0.4, **static: Any) -> Any:
    """Random "params" of ``module(*args, **static)``: float32, standard deviation ``scale``."""
    shapes = jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a, **static), *args)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (scale * rng.normal(size=s.shape)).astype(np.float32), shapes)
