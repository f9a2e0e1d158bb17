"""From runs to an exported folder: written, read back, compared, and only then put in its place."""

import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from msa_jax.data.vocabulary import TOKENIZER_FILES
from msa_jax.errors import RunError
from msa_jax.export import checking, describe, onnx, orbax, safetensors, stablehlo
from msa_jax.export import program as programs
from msa_jax.export.program import Program
from msa_jax.files import check_new_folder, new_folder
from msa_jax.inference import Trained
from msa_jax.messages import LOGGER
from msa_jax.training.run_folder import TOKENIZER

_STANDALONE = pathlib.Path(__file__).parent / "standalone" / "run.py"


def export(
    workdirs: Sequence[str | pathlib.Path],
    form: str,
    out: pathlib.Path,
    combine: str = "predictions",
) -> None:
    """Exports one run, or several of one configuration as one model.

    Args:
      workdirs: the runs' folders.
      form: "stablehlo", "onnx", "safetensors" or "orbax".
      out: the folder to make.
      combine: of several runs, the mean of "predictions" or the "average" of weights.

    Raises:
      RunError: if a folder holds no trained run, the runs do not go together, ``out`` is taken or cannot be
        written, or the written model differs from the original.
    """
    check_new_folder(out)
    if form == "onnx":
        onnx.require()
    if len(workdirs) > 1 and combine == "predictions" and form in ("safetensors", "orbax"):
        raise RunError(
            f"--format={form} holds one set of weights: of several runs give --combine=average, or export "
            "their predictions as stablehlo or onnx."
        )
    runs = programs.load_runs(workdirs)
    members = [programs.averaged(runs)] if combine == "average" and len(runs) > 1 else runs
    original = checking.mean_of(members)
    try:
        with new_folder(out) as folder:
            tokenizer = _copy_tokenizer(runs[0], folder)
            if form in ("safetensors", "orbax"):
                program, note = programs.build(members), ""
                differences = _write_weights(members[0], form, folder, original)
            else:
                program, differences, note = _write_program(members, form, folder, original)
            spec = describe.spec_json(form, runs, combine, program, tokenizer, note)
            (folder / "spec.json").write_text(json.dumps(spec, indent=1))
            (folder / "MODEL_CARD.md").write_text(describe.model_card(spec, runs, differences))
            _sync(folder)
            size = checking.size_of(folder)
    except OSError as error:
        raise RunError(
            f"cannot write {out}: {error.strerror or error}; make room, or take another --out."
        ) from error
    for kind, value in differences.items():
        LOGGER.info("largest difference from the run on %s clips: %.3g", kind, value)
    if "real" not in differences:
        LOGGER.info("the run's own data is not there, so that no real clips were compared.")
    LOGGER.info("wrote %s: %s, %.1f MB", out, form, size / 1e6)


def _write_weights(
    run: Trained, form: str, folder: pathlib.Path, original: checking.Scorer
) -> dict[str, float]:
    """Writes weights and reads them back; returns the differences of what they predict."""
    if form == "safetensors":
        safetensors.write(run, folder)
        variables = safetensors.load_safetensors(folder)[0]
    else:
        orbax.write(run, folder)
        variables = orbax.read(folder)
    expected = safetensors.variables_of(run)
    same = jax.tree.structure(variables) == jax.tree.structure(expected) and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(expected), strict=True)
    )
    if not same:
        raise RunError("the written weights are not the run's, read back; nothing was exported.")
    written = programs.with_variables(run, variables)
    return checking.largest_differences(run, original, written.predict)


def _write_program(
    members: list[Trained],
    form: str,
    folder: pathlib.Path,
    original: checking.Scorer,
) -> tuple[Program, dict[str, float], str]:
    """Writes the program in the freest form that works; returns it, its differences, what is fixed why."""
    module: Any = {"stablehlo": stablehlo, "onnx": onnx}[form]
    reasons: list[str] = []
    for program, fixed in _forms(members, form):
        try:
            module.write(program, folder)
            written = checking.scorer(program, module.read(folder))
            differences = checking.largest_differences(members[0], original, written)
        except Exception as error:
            if form == "stablehlo" or isinstance(error, OSError):
                raise
            # What the converter or the runtime cannot do is known only by trying.
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            LOGGER.warning("onnx with %s did not work (%s)", fixed or "free dimensions", reasons[-1])
            continue
        note = f"Here {fixed}, since the freer form failed ({reasons[-1]})." if reasons else ""
        shutil.copyfile(_STANDALONE, folder / _STANDALONE.name)
        return program, differences, note
    raise RunError(
        f"{members[0].config.model.name} cannot be converted to ONNX ({reasons[0]}); take --format=stablehlo."
    )


def _forms(members: list[Trained], form: str) -> Iterator[tuple[Program, str]]:
    """Programs to try, from free to fixed dimensions, with what is fixed."""
    program = programs.build(members)
    yield program, ""
    if form == "onnx":
        yield program.fixed(), "the number of steps is fixed (pad behind, with a false mask)"
        yield (
            program.fixed(rows=1),
            "one clip at a time with a fixed number of steps (pad behind, with a false mask)",
        )


def _copy_tokenizer(run: Trained, folder: pathlib.Path) -> list[str]:
    """Copies the vocabulary of an encoder that was trained along; returns the files' names."""
    names = [name for name in TOKENIZER_FILES if (run.workdir / TOKENIZER / name).is_file()]
    if names:
        (folder / TOKENIZER).mkdir()
    for name in names:
        shutil.copyfile(run.workdir / TOKENIZER / name, folder / TOKENIZER / name)
    return names


def _sync(folder: pathlib.Path) -> None:
    """Sees every file onto the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
