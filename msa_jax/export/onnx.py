"""ONNX files, through jax2onnx: a program for onnxruntime.

The program is traced to its end by JAX itself and only then converted, so that the converter's
replacements of JAX's functions, which Flax's scans do not survive, meet nothing but primitives
(see :mod:`msa_jax.export.primitives`).
"""

import contextlib
import importlib
import logging
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import export

from msa_jax.errors import RunError
from msa_jax.export import primitives
from msa_jax.export.program import Arrays, Program, Runner
from msa_jax.export.stablehlo import symbolic_inputs

FILE = "model.onnx"
#: What jax2onnx 0.17 is tested with and onnxruntime 1.23 and newer run.
OPSET = 23


def require() -> tuple[Any, Any]:
    """The modules jax2onnx and onnxruntime.

    Raises:
      RunError: if the extra is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jax2onnx
            import onnxruntime
    except ImportError:
        raise RunError("--format=onnx needs the extra: pip install 'msa_jax[onnx]'.") from None
    return jax2onnx, onnxruntime


def write(program: Program, folder: pathlib.Path) -> None:
    """Writes ``model.onnx``; what jax2onnx cannot convert raises whatever it says."""
    jax2onnx, _ = require()
    inputs = symbolic_inputs(program)
    names = sorted(inputs)
    specs = [inputs[name] for name in names]
    tasks: list[str] = []

    def run(*arrays: jax.Array) -> list[jax.Array]:
        answers = program.run(dict(zip(names, arrays, strict=True)))
        tasks[:] = sorted(answers)
        return [answers[task] for task in tasks]

    traced = jax.make_jaxpr(jax.jit(run))(*specs)
    with _converting():
        jax2onnx.to_onnx(
            primitives.as_function(traced),
            specs,
            model_name="msa_jax",
            opset=OPSET,
            input_names=names,
            output_names=tasks,
            return_mode="file",
            output_path=str(folder / FILE),
        )
    _forget_sizes(folder / FILE)


def _forget_sizes(path: pathlib.Path) -> None:
    """Removes what the file says of the sizes of intermediate arrays.

    jax2onnx gives different sizes the same name ("dynamic_1"), by which onnxruntime would share memory among
    arrays that do not fit each other. It finds the sizes by itself.
    """
    onnx: Any = importlib.import_module("onnx")  # the package, not this file

    def forget(graph: Any) -> None:
        del graph.value_info[:]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    forget(attribute.g)

    model = onnx.load(str(path), load_external_data=False)
    forget(model.graph)
    onnx.save(model, str(path))


def read(folder: pathlib.Path) -> Runner:
    """What :func:`write` wrote, run by onnxruntime on the CPU, as a function of named arrays."""
    try:
        import onnxruntime  # the converter is not needed
    except ImportError:
        raise RunError("an ONNX file needs onnxruntime: pip install 'msa_jax[onnx]'.") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions anyway
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
    tasks = [output.name for output in session.get_outputs()]
    wanted = {record.name for record in session.get_inputs()}

    def run(inputs: Arrays) -> Arrays:
        feed = {name: np.asarray(x) for name, x in inputs.items() if name in wanted}
        return dict(zip(tasks, session.run(None, feed), strict=True))

    return run


@contextlib.contextmanager
def _converting() -> Iterator[None]:
    """Within it the converter's remarks on its own graph are not shown.

    It also copies sizes such as 4 * ceil(T / 4), which cannot be copied because the scope that they belong
    to cannot; within it a scope's copy is the scope itself.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    scope: Any = export.SymbolicScope
    scope.__deepcopy__ = lambda self, _: self
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        del scope.__deepcopy__
        logging.disable(before)
