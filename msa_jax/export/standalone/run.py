"""Scores clips with the exported model in this folder; msa_jax is not needed.

    python run.py clips.npz > scores.csv

clips.npz holds features as in the training data's files: text, audio, vision [N, T, D], and
text_lengths, audio_lengths, vision_lengths [N] with each clip's real steps (without them every step is
real). A model that reads tokens takes text_bert [N, 3, T] (ids, mask, segment ids) in place of text.

It needs NumPy, and jax for model.stablehlo or onnxruntime for model.onnx.
"""

import json
import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent


def load_model():
    """The model as a function: inputs by name, see spec.json, to predictions by task."""
    if (FOLDER / "model.stablehlo").exists():
        import jax

        exported = jax.export.deserialize(bytearray((FOLDER / "model.stablehlo").read_bytes()))
        call = jax.jit(exported.call)
        return lambda inputs: {task: np.asarray(y) for task, y in call(inputs).items()}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions anyway
    session = onnxruntime.InferenceSession(
        str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    tasks = [output.name for output in session.get_outputs()]
    wanted = {record.name for record in session.get_inputs()}

    def call_session(inputs):
        feed = {name: x for name, x in inputs.items() if name in wanted}
        answers = session.run(None, feed)
        return {task: np.asarray(y) for task, y in zip(tasks, answers, strict=True)}

    return call_session


def inputs_of(clips, spec):
    """The clips' arrays that the model reads, as spec.json's "inputs" lists them."""
    inputs = {}
    for record in spec["inputs"]:
        name, shape = record["name"], record["shape"]
        if name.endswith("_lengths") and name not in clips:
            features = clips[name.removesuffix("_lengths")]
            x = np.full(len(features), features.shape[1])
        else:
            x = clips[name]
        axis = 2 if name == "text_bert" else 1
        if len(shape) > 1 and isinstance(shape[axis], int):
            x = fitted(x, shape[axis], axis)
        inputs[name] = np.asarray(x, record["dtype"])
    return inputs


def fitted(x, steps, axis):
    """Cut, or filled with zeros, for a model that wants a fixed number of steps."""
    x = x[(slice(None),) * axis + (slice(steps),)]
    return np.pad(x, [(0, steps - n if i == axis else 0) for i, n in enumerate(x.shape)])


def score(clips, spec, model):
    """Predictions by task for clips as they are stored."""
    inputs = inputs_of(clips, spec)
    rows = spec["inputs"][0]["shape"][0]
    if not isinstance(rows, int):
        return model(inputs)
    count = len(next(iter(inputs.values())))
    parts = [model({name: x[i : i + rows] for name, x in inputs.items()}) for i in range(0, count, rows)]
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}


def main():
    """The command."""
    spec = json.loads((FOLDER / "spec.json").read_text())
    with np.load(sys.argv[1]) as clips:
        predictions = score(dict(clips), spec, load_model())
    columns = {}
    for task, y in predictions.items():
        columns |= {task: y} if y.ndim == 1 else {f"{task}_logit_{k}": y[:, k] for k in range(y.shape[1])}
    print(",".join(columns))
    for row in zip(*columns.values(), strict=True):
        print(",".join(f"{value:.9g}" for value in row))


if __name__ == "__main__":
    main()
