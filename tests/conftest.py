"""Settings that every test runs under: one shared compile cache, no silent rank promotion."""

import contextlib
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from msa_jax.studies.quick_compile import QUICK

CACHE = pathlib.Path(tempfile.gettempdir()) / f"msa_jax_test_cache_{os.getuid()}"
# Eight CPU devices stand in for a pod, for the tests that ask for several; a program for one is the same with
# them. Compiling, which is what the tests mostly do, is made quick. Set before JAX starts; subprocess tests
# make their own choice.
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {QUICK}")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import hypothesis  # noqa: E402  (the settings above must come first)
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: E402, F401  (hooks)
from tiers import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: E402, F401  (hooks)

from msa_jax.nn import prefix_attention  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
# How long an example takes says something about the machine, not about us.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"
GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What a command set up ends with its test."""
    logger = logging.getLogger("msa_jax")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@contextlib.contextmanager
def small_tiles(steps: int = 4, weights: int = 16) -> Iterator[list[str]]:
    """Within it attention goes by tiles, as on a CPU for clips of full length, though a test's are short.

    Args:
      steps: of a tile at most.
      weights: of a tile at most, where it has more than one row.

    Gives a list that grows whenever a program is traced so.
    """
    traced: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_attention, "TILE_STEPS", steps)
        patch.setattr(prefix_attention, "TILE_WEIGHTS", weights)
        for name in ("_forward_in_tiles", "_backward_in_tiles"):
            patch.setattr(prefix_attention, name, _noted(name, getattr(prefix_attention, name), traced))
        yield traced


def _noted(name: str, compute: Any, traced: list[str]) -> Any:
    def noted(*operands: Any, **settings: Any) -> Any:
        traced.append(name)
        return compute(*operands, **settings)

    return noted


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test draws the same numbers from its module's RNG, whichever tests ran before it."""
    if hasattr(request.module, "RNG"):
        monkeypatch.setattr(request.module, "RNG", np.random.default_rng(0))


@pytest.fixture
def tiled() -> Iterator[list[str]]:
    with small_tiles() as traced:
        yield traced


@pytest.fixture
def shared_data() -> pathlib.Path:
    """The folder of real data that is not part of this repository; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED / "data"
