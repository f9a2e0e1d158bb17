"""StableHLO files (jax.export): a program that JAX alone runs, on a CPU, a GPU or a TPU.

JAX promises to read such a file for six months after the version that wrote it; export again for
a newer one.
"""

import pathlib
from typing import Any

import jax
from jax import export

from msa_jax.export.program import BATCH, Arrays, Program, Runner

FILE = "model.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def symbolic_inputs(program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """The inputs' shapes with free dimensions, which share one scope."""
    axes = [BATCH, *dict.fromkeys(s for s in program.steps.values() if isinstance(s, str))]
    limits = [f"{axis} <= {most}" for axis, most in program.limits.items()]
    sizes: dict[Any, Any] = dict(
        zip(axes, export.symbolic_shape(",".join(axes), constraints=limits), strict=True)
    )
    return {
        record.name: jax.ShapeDtypeStruct([sizes.get(n, n) for n in record.shape], record.dtype)
        for record in program.inputs
    }


def write(program: Program, folder: pathlib.Path) -> None:
    """Writes ``model.stablehlo``: any number of clips and steps, three platforms."""
    exported = export.export(jax.jit(program.run), platforms=PLATFORMS)(symbolic_inputs(program))
    (folder / FILE).write_bytes(exported.serialize())


def read(folder: pathlib.Path) -> Runner:
    """What :func:`write` wrote, as a function of named arrays."""
    exported = export.deserialize(bytearray((folder / FILE).read_bytes()))
    call = jax.jit(exported.call)

    def run(inputs: Arrays) -> Arrays:
        return {task: jax.device_get(y) for task, y in call(inputs).items()}

    return run
