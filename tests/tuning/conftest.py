"""The toy model and its clips are those of tests/training."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "training"))
