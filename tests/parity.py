"""Compares our models with files of golden vectors: python tests/parity.py FILE.npz... [--json]

Reads any file of the layout that tests/golden/README.md describes, whatever its sizes: builds our
model from the peer's settings in `meta`, imports the weights, and compares outputs, losses,
gradients, running statistics and a batch of one under that README's tolerance rule. Prints per file
the largest scaled error of each kind (1 is the tolerance), and exits 1 where one is over.
"""

import argparse
import json
import pathlib
import sys

import parity_blocks
import parity_models
from parity_errors import Errors


def check(path: pathlib.Path, outputs_only: bool = False) -> Errors:
    """Every error of one file, or of a model's outputs."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    errors = Errors(arrays)
    if meta["model"] in parity_blocks.BLOCKS:
        parity_blocks.BLOCKS[meta["model"]](arrays, meta, errors)
    elif outputs_only:
        parity_models.compare_outputs(arrays, meta, errors)
    else:
        parity_models.compare(arrays, meta, errors)
    return errors


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python tests/parity.py")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    report = {}
    for path in arguments.files:
        errors = check(path)
        report[str(path)] = {"ok": not errors.over(), "largest": errors.largest(), "over": errors.over()}
        if not arguments.json:
            print(path.name, "ok" if not errors.over() else "OVER", errors.largest(), *errors.over()[:8])
    if arguments.json:
        print(json.dumps(report, indent=1))
    return 0 if all(r["ok"] for r in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
