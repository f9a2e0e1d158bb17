"""What makes XLA compile quickly, for programs that run for moments: tries, and tests."""

import importlib.metadata

_LEVEL = "--xla_backend_optimization_level=0"  # a third of the time
_SPLIT = "--xla_cpu_parallel_codegen_split_count=1"
#: Half of that again. XLA ends a process for a flag that its version lacks: only where they were tried.
_MORE = {(0, 10): f"--xla_cpu_use_fusion_emitters=false {_SPLIT}", (0, 12): _SPLIT}


def _flags() -> str:
    major, minor, *_ = importlib.metadata.version("jaxlib").split(".")
    return f"{_LEVEL} {_MORE.get((int(major), int(minor)), '')}".strip()


#: For XLA_FLAGS, before JAX starts.
QUICK = _flags()
