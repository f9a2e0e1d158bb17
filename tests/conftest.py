"""Settings that every test runs under: one shared compile cache, no silent rank promotion."""

import os
import pathlib
import tempfile

CACHE = pathlib.Path(tempfile.gettempdir()) / f"msa_jax_test_cache_{os.getuid()}"
# Eight CPU devices stand in for a pod, and compiling, which is what the tests mostly do, is made
# quick. Set before JAX starts; subprocess tests make their own choice.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import jax  # noqa: E402  (the settings above must come first)
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"
GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture
def shared_data() -> pathlib.Path:
    """The folder of real data that is not part of this repository; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED / "data"
