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
from align import align, align_as_mmsa
from clean import as_mmsa, finite, time_mean

FOLDER = pathlib.Path(__file__).resolve().parent
MODALITIES = ("text", "audio", "vision")


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
        return dict(zip(tasks, session.run(None, feed), strict=True))

    return call_session


def inputs_of(clips, spec):
    """Stored clips to the model's inputs: reduced, as spec.json's "preprocessing" says, with masks."""
    reduction, compat = spec["preprocessing"]["reduction"], spec["preprocessing"]["compat"]
    values, lengths = {}, {}
    if "text_bert" in clips:
        tokens = np.asarray(clips["text_bert"])
        values["token_ids"], values["segment_ids"] = (
            tokens[:, 0].astype(np.int32),
            tokens[:, 2].astype(np.int32),
        )
        steps, lengths["text"] = tokens.shape[2], tokens[:, 1].sum(axis=1).astype(int)
    for m in MODALITIES:
        if m != "text" or "text_bert" not in clips:
            values[m] = np.asarray(clips[m], np.float32)
            full = np.full(len(values[m]), values[m].shape[1])
            lengths[m] = np.asarray(clips.get(f"{m}_lengths", full)).astype(int)
            steps = values[m].shape[1] if m == "text" else steps
    if reduction != "none":
        for m in ("audio", "vision"):
            x = as_mmsa(values[m], m) if compat else finite(values[m])
            if reduction == "mean" or (compat and reduction == "mean_align"):
                x = time_mean(x, lengths[m], compat)
            if reduction != "mean":
                x = align_as_mmsa(x, steps) if compat else align(x, lengths[m], lengths["text"], steps)
            values[m], lengths[m] = x, (np.ones_like(lengths[m]) if reduction == "mean" else lengths["text"])
    for m in MODALITIES:
        size = values["token_ids" if m == "text" and "token_ids" in values else m].shape[1]
        values[f"{m}_mask"] = np.arange(size)[None, :] < lengths[m][:, None]
    return {record["name"]: _fitted(values[record["name"]], record["shape"]) for record in spec["inputs"]}


def _fitted(x, shape):
    """Cut, or filled with zeros, where the model wants a fixed number of steps."""
    if not isinstance(shape[1], int):
        return x
    x = x[:, : shape[1]]
    return np.pad(x, [(0, 0), (0, shape[1] - x.shape[1])] + [(0, 0)] * (x.ndim - 2))


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
