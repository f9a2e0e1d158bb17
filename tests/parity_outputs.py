"""Where each output of a golden file stands among our models' features, and in which layout."""

from collections.abc import Callable, Mapping
from typing import Any

Take = Callable[[Mapping[str, Any]], Any]


def _feature(name: str) -> Take:
    return lambda features: features[name]


_FOUR = {
    "Feature_t": _feature("text"),
    "Feature_a": _feature("audio"),
    "Feature_v": _feature("vision"),
    "Feature_f": _feature("fusion"),
}

#: model -> golden output -> how to read it from Outputs.features.
OUTPUTS: dict[str, dict[str, Take]] = {
    "ef_lstm": {"normed": _feature("normed")},
    "lf_dnn": _FOUR,
    "tfn": _FOUR | {"Feature_f": _feature("tensor")},
    "lmf": _FOUR,
    "mlf_dnn": _FOUR,
    "mtfn": _FOUR | {"Feature_f": _feature("tensor")},
    "mlmf": _FOUR,
}
