"""What lies beside an exported model: ``spec.json`` for programs, ``MODEL_CARD.md`` for people."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from msa_jax.data.columns import KNOWN_WIDTHS
from msa_jax.data.spec import THREE_CLASSES, UNIMODAL_TASKS, DatasetSpec, format_columns
from msa_jax.export.program import BATCH, Program
from msa_jax.files import read_json
from msa_jax.inference import Trained
from msa_jax.training.state import count_parameters

_REDUCTIONS = {
    "none": "none: all modalities are sequences.",
    "mean": "mean: audio and vision are the mean over a clip's real steps, one step each.",
    "align": "align: audio and vision are averaged down to the text's steps.",
    "mean_align": "mean_align: audio and vision are averaged down to the text's steps.",
}


def outputs_of(program: Program) -> list[dict[str, Any]]:
    """The program's outputs as spec.json lists them."""
    sizes = {name: 2 for name in (BATCH, *program.steps.values()) if isinstance(name, str)}
    inputs = {
        r.name: jax.ShapeDtypeStruct([sizes.get(n, n) for n in r.shape], r.dtype)  # type: ignore[arg-type]
        for r in program.inputs
    }
    rows = program.inputs[0].shape[0]
    names = program.members[0].model_spec.class_names or THREE_CLASSES
    shapes = jax.eval_shape(program.run, inputs)
    return [
        {
            "name": task,
            "dtype": "float32",
            "shape": [rows, *y.shape[1:]],
            "meaning": _meaning(task, y.ndim == 2, names),
        }
        for task, y in shapes.items()
    ]


def _meaning(task: str, logits: bool, names: tuple[str, ...]) -> str:
    modality = {t: m for m, t in UNIMODAL_TASKS.items()}.get(task)
    whose = {"M": "the clip", "fusion": "the clip, before the encoder-decoder"}.get(task, f"{modality} alone")
    return f"logits for {', '.join(names)}, of {whose}" if logits else f"sentiment score of {whose}"


def preprocessing(run: Trained, tokenizer: Sequence[str]) -> dict[str, Any]:
    """The constants that stand between stored features and the model."""
    config, read, scale = run.config, run.model_spec, run.preprocess.scale
    return {
        "reduction": config.data.reduce,
        "compat": bool(config.model.compat),
        "feature_norm": config.data.feature_norm,
        "mean": {m: np.asarray(mean, float).tolist() for m, (mean, _) in scale.items()},
        "std": {m: np.asarray(std, float).tolist() for m, (_, std) in scale.items()},
        "groups": {
            m: {k: format_columns(c) for k, c in r.groups.items()} for m, r in read.modalities.items()
        },
        "stored_steps": {m: r.length for m, r in run.spec.modalities.items()},
        "read_steps": {m: r.length for m, r in read.modalities.items()},
        "tokenizer": list(tokenizer),
        "may_lack": list(run.may_lack),
    }


def _record(spec: DatasetSpec) -> dict[str, Any]:
    return json.loads(spec.to_json())


def spec_json(
    form: str, runs: Sequence[Trained], combine: str, program: Program, tokenizer: Sequence[str], note: str
) -> dict[str, Any]:
    """The content of ``spec.json``.

    Args:
      form: stablehlo, onnx, safetensors or orbax.
      runs: what was exported.
      combine: how, where these are several.
      program: the program, or for weights the one that the model would be.
      tokenizer: names of the tokenizer's files in ``tokenizer/``.
      note: why dimensions are fixed that others have free, or "".
    """
    first, is_program = runs[0], form in ("stablehlo", "onnx")
    return {
        "format": form,
        "model": first.config.model.name,
        "task": first.config.model.task,
        "seeds": [run.config.train.seed for run in runs],
        "combined": combine if len(runs) > 1 else "no",
        "inputs": [dataclasses.asdict(record) for record in program.inputs],
        "limits": dict(program.limits),
        "outputs": outputs_of(program),
        "note": note,
        "reduction_cleaning_and_scaling": "inside the program" if is_program else "before the model",
        "preprocessing": preprocessing(first, tokenizer),
        "data_as_stored": _record(first.spec),
        "data_as_read": _record(first.model_spec),
        "versions": {"msa_jax": importlib.metadata.version("msa_jax"), "jax": jax.__version__},
    }


def results_of(run: Trained) -> Mapping[str, Any]:
    """The run's result.json; empty where it was not written (the run was stopped before its end)."""
    path = run.workdir / "result.json"
    return read_json(path, "train the run to its end") if path.is_file() else {}


def model_card(spec: Mapping[str, Any], runs: Sequence[Trained], differences: Mapping[str, float]) -> str:
    """The text of ``MODEL_CARD.md``."""
    first, data = runs[0], runs[0].spec
    members = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    how = {"predictions": ", whose predictions are averaged", "average": ", whose weights are averaged"}
    parameters = count_parameters(first.params)
    parts = [
        f"# {first.config.model.name} on {data.name}",
        f"Multimodal sentiment analysis: a score for a clip with words, sound and faces. Exported as "
        f"{spec['format']} from {members}{how.get(spec['combined'], '')} "
        f"(seed {', '.join(map(str, spec['seeds']))}) of msa_jax {spec['versions']['msa_jax']}.",
        "## Data",
        _data(data),
        "## Results",
        _results(runs),
        "## Model",
        f"{parameters:,} parameters{' each' if spec['combined'] == 'predictions' else ''}, "
        f"fine-grained: {first.config.model.fg}, task: {spec['task']}.",
        "## Inputs",
        _inputs(spec),
        "## Use",
        _usage(spec),
        "## Checked",
        "Read back after writing and compared with the run itself: "
        + "; ".join(f"largest difference on {kind} clips {value:.2g}" for kind, value in differences.items())
        + ". "
        + ("" if "real" in differences else "The run's data could not be opened for a check on real clips."),
        "## Limits",
        _limits(data),
        "## Licence",
        "The code of msa_jax is under Apache-2.0. Weights follow the terms of the data that they were "
        f"trained on{'' if data.synthetic else f' ({data.name}; ask its publishers, and cite them)'}"
        f"{', and of the text encoder that they contain' if spec['preprocessing']['tokenizer'] else ''}.",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _data(data: DatasetSpec) -> str:
    clips = ", ".join(f"{count} {name}" for name, count in data.counts.items())
    widths = ", ".join(f"{m} {r.width}" for m, r in data.modalities.items())
    low, high = data.label_range
    made = "Generated by a program: it says nothing about people. " if data.synthetic else ""
    known = KNOWN_WIDTHS.get((data.modalities["audio"].width, data.modalities["vision"].width))
    layout = f" (the layout of {known})" if known and known != data.name else ""
    return (
        f"{made}{data.name}{layout}: {clips} clips; feature columns: {widths}; scores from {low:g} to "
        f"{high:g}. `spec.json` has the columns' groups, means and deviations."
    )


def _results(runs: Sequence[Trained]) -> str:
    lines = ["| seed | split | " + "metrics |", "| --- | --- | --- |"]
    for run in runs:
        result = results_of(run)
        for split in ("valid", "test"):
            figures = [f"{k} {v:.4f}" for k, v in result.get(split, {}).items() if not k.startswith("loss")]
            if figures:
                lines.append(f"| {run.config.train.seed} | {split} | {', '.join(figures)} |")
    if len(lines) == 2:
        return "The run has no result.json: it was not trained to its end."
    after = "\n\nThese are the single runs; the combination was not evaluated." if len(runs) > 1 else ""
    return "\n".join(lines) + after


def _inputs(spec: Mapping[str, Any]) -> str:
    if spec["reduction_cleaning_and_scaling"] != "inside the program":
        return (
            "The model reads what `spec.json` describes under `inputs`, reduced, cleaned and scaled. "
            f"Reduction: {_REDUCTIONS[spec['preprocessing']['reduction']]}"
        )
    lines = ["| input | type | shape | |", "| --- | --- | --- | --- |"]
    for r in spec["inputs"]:
        lines.append(f"| {r['name']} | {r['dtype']} | {', '.join(map(str, r['shape']))} | {r['meaning']} |")
    for r in spec["outputs"]:
        lines.append(
            f"| -> {r['name']} | {r['dtype']} | {', '.join(map(str, r['shape']))} | {r['meaning']} |"
        )
    limits = "".join(f" At most {most} {axis.replace('_', ' ')}." for axis, most in spec["limits"].items())
    reduction = _REDUCTIONS[spec["preprocessing"]["reduction"]]
    return (
        "\n".join(lines)
        + "\n\nFeatures are raw, as the data's extractor gives them; NaN, infinities, scaling and reduction "
        f"are dealt with inside. Reduction: {reduction}{limits} {spec['note']}"
    )


def _usage(spec: Mapping[str, Any]) -> str:
    by_format = {
        "stablehlo": "`python run.py clips.npz` scores clips; it needs NumPy and jax. By hand:\n\n```python\n"
        "import jax\nexported = jax.export.deserialize(bytearray(open('model.stablehlo', 'rb').read()))\n"
        "scores = jax.jit(exported.call)(inputs)['M']  # inputs: arrays by name, as above\n```\n\n"
        "Runs on CPU, CUDA GPU and TPU. jax reads such files for six months after the version that wrote "
        "them.",
        "onnx": "`python run.py clips.npz` scores clips; it needs NumPy and onnxruntime. By hand:\n\n"
        "```python\n"
        "import onnxruntime\nsession = onnxruntime.InferenceSession('model.onnx')\n"
        "scores = session.run(['M'], inputs)[0]  # inputs: arrays by name, as above\n```",
        "safetensors": "```python\nfrom msa_jax.export.safetensors import load_safetensors\n"
        "variables, config = load_safetensors('.')\n```\n\nAny safetensors reader gives the arrays by flat "
        "names; kernels are [in, out].",
        "orbax": "```python\nimport orbax.checkpoint as ocp\n"
        "variables = ocp.StandardCheckpointer().restore('/absolute/path/checkpoint')\n```\n\n`config.json` "
        "holds the run's whole configuration.",
    }
    return by_format[spec["format"]]


def _limits(data: DatasetSpec) -> str:
    return (
        "Trained on one data set, in its language, on the features that its extractors gave; other "
        f"extractors, languages and recordings are untested. Scores mean what the labels of {data.name} "
        "mean: how annotators judge an utterance, not what a person feels. Not for decisions about people."
    )
