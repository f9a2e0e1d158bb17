"""Where a model looks: the weights of its attention modules for single clips.

Attention says what a module reads, not why a score came out as it did; for that there are reasons
(:mod:`msa_jax.explain.reasons`). A fine-tuned text encoder's own attention is left out.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch, example_batch
from msa_jax.data.dataset import Split
from msa_jax.data.loader import Shape, batch_of
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.inference import Trained
from msa_jax.nn.attention import Kept

#: The models that have attention whether or not a modality is split into column groups.
MODELS = (
    "ufen_mtfn",
    "mult",
    "mctn",
    "tmt",
    "misa",
    "tetfn",
    "almt",
    "cenet",
    "emt_dlfr",
    "tfr_net",
    "lnln",
    "dlf",
)


class Map(NamedTuple):
    """What one attention module reads of a clip.

    Attributes:
      module: its path in the parameter tree; a module that is called several times counts behind it.
      queries: what its rows are: a modality's name (its steps, coarser where a convolution went over
        them), or in words what else.
      keys: the same of its columns.
      weights: float32 [Tq, Tk], the heads' mean, of real queries and keys. A row adds up to 1.
    """

    module: str
    queries: str
    keys: str
    weights: np.ndarray


class Clip(NamedTuple):
    """The maps of one clip.

    Attributes:
      row: its place in the split.
      steps: per modality its real steps, as the model reads them.
      maps: by path.
    """

    row: int
    steps: Mapping[str, int]
    maps: list[Map]


class Maps:
    """A run's attention for any number of clips, in float32 whatever the run's own precision.

    Args:
      trained: the run.

    Attributes:
      traces: how often the program was traced, for tests: once per padded shape and number of rows.

    Raises:
      ConfigError: if the model has no attention, or none that has a choice of what to read.
    """

    def __init__(self, trained: Trained):
        self._trained, self.traces = trained, 0
        model, spec = trained.config.model, trained.model_spec
        batch = jax.eval_shape(lambda: example_batch(spec, 1, trained.shapes[-1]))
        kept = jax.eval_shape(self._kept, trained.params, trained.batch_stats, batch)
        names = {path: named(model.name, path) for path, one in kept.items() if one.keys.shape[1] > 1}
        if model.attend_over == "groups":
            names = {path: _of_groups(path, both) for path, both in names.items()}
        self._names = names
        if not names:
            others = f"{', '.join(MODELS[:-1])} or {MODELS[-1]}"
            raise ConfigError(
                f"the model in {trained.workdir} ({model.name}) has no attention to show; leave out "
                f"--attention, or explain a run of {others}, or of another that joins column groups over "
                "time (model.fg)."
            )
        self._compiled = jax.jit(self._looks, static_argnames="shape")

    def __call__(self, split: Split) -> Iterator[Clip]:
        """The maps of every clip, batch by batch, so that few are in memory at a time.

        Args:
          split: N clips as they are stored.

        Raises:
          DataError: if the clips do not have what the model was trained on.
        """
        split = self._trained.prepare(split)
        for chunk, item in self._trained.items(split):
            found = self._compiled(self._trained.params, self._trained.batch_stats, item, shape=chunk.shape)
            arrays = {path: tuple(map(np.asarray, one)) for path, one in found.items()}
            for place in np.flatnonzero(chunk.weight[0] > 0):
                row = int(chunk.index[0][place])
                steps = zip(MODALITIES, chunk.shape, strict=True)  # padded; a model may read the first alone
                yield Clip(
                    row,
                    {m: min(int(split.lengths[m][row]), most) for m, most in steps},
                    [self._map(path, *(x[place] for x in arrays[path])) for path in sorted(arrays)],
                )

    def _map(self, path: str, weights: np.ndarray, queries: np.ndarray, keys: np.ndarray) -> Map:
        return Map(path, *self._names[path], weights[queries][:, keys])

    def _looks(self, params: Any, batch_stats: Any, item: Any, shape: Shape) -> dict[str, tuple]:
        """Per path the weights [B, Tq, Tk] and the real queries [B, Tq] and keys [B, Tk]."""
        self.traces += 1
        batch = batch_of(None, jax.tree.map(lambda x: x[0], item), shape)
        kept = self._kept(params, batch_stats, batch)
        return {path: (jnp.mean(kept[path].weights, axis=1), *kept[path][1:]) for path in self._names}

    def _kept(self, params: Any, batch_stats: Any, batch: Batch) -> dict[str, Kept]:
        variables = {"params": params, "batch_stats": batch_stats}
        model = self._trained.learner.model
        _, kept = model.apply(variables, batch, train=False, mutable=["intermediates"])
        return kept_of(kept.get("intermediates") or {})


def kept_of(intermediates: Mapping[str, Any], above: str = "") -> dict[str, Kept]:
    """What the attention modules of a model kept, by path.

    Args:
      intermediates: the collection of that name.
      above: the path to it.
    """
    found: dict[str, Kept] = {}
    for name, value in intermediates.items():
        path = f"{above}/{name}" if above else name
        if isinstance(value, Mapping):
            found |= kept_of(value, path)
        elif isinstance(value, tuple) and value and isinstance(value[0], Kept):
            place = above if name == "attention" else path
            for call, one in enumerate(value, start=1):
                found[place if len(value) == 1 else f"{place} ({call})"] = one
    return found


# --- Names ------------------------------------------------------------------------------------------------

_ONE = "(text|audio|vision)"


def _calls(which: int, of: int) -> str:
    """A pattern for every call whose number leaves ``which`` when divided by ``of``, up to 20 rounds."""
    return rf" \((?:{'|'.join(str(round * of + which) for round in range(20))})\)$"


#: By model: a pattern that a path begins with, and what its queries and its keys are.
_OF_MODELS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "ufen_mtfn": (
        (f"pool_{_ONE}", "pooled", r"\1"),
        ("(encoder|decoder)/", "tokens", "tokens"),
    ),
    "tmt": (
        ("encoder/", "tokens, vision, audio, text", "tokens, vision, audio, text"),
        ("cross_specific/", "specific tokens", "invariant tokens"),
        ("cross_invariant/", "invariant tokens", "specific tokens"),
    ),
    "almt": (
        (f"{_ONE}/", r"tokens, \1", r"tokens, \1"),
        ("text_layer_", "text tokens", "text tokens"),
        (f"hyper_[0-9]+/{_ONE}", "text tokens", r"\1 tokens"),
        ("cross/", "class token, text tokens", "class token, hyper tokens"),
    ),
    "lnln": (
        (f"{_ONE}/", r"tokens, \1", r"tokens, \1"),
        ("check/", "completeness token, text tokens", "completeness token, text tokens"),
        ("proxy/", "proxy tokens, audio and vision tokens", "proxy tokens, audio and vision tokens"),
        ("text_layer_", "dominant tokens", "dominant tokens"),
        (f"hyper_[0-9]+/{_ONE}", "dominant tokens", r"\1 tokens"),
        ("cross/", "class token, dominant tokens", "class token, hyper tokens"),
    ),
    "mctn": (("pool_text", "pooled", "text"),),
    "misa": (("transformer/", "private and shared vectors", "private and shared vectors"),),
    "tetfn": ((f"{_ONE}_from_{_ONE}_lower/", r"\2", "text"),),
    # One unit for all: in every layer the global tokens read the three modalities, and these read them.
    "emt_dlfr": tuple(
        (f"unit/{name}{_calls(call, 6)}", queries, keys)
        for place, m in enumerate(MODALITIES, start=1)
        for name, call, queries, keys in (
            ("cross", place, "global tokens", m),
            ("own", place, "global tokens", "global tokens"),
            ("cross", place + 3, m, "global tokens"),
            ("own", place + 3, m, m),
        )
    ),
    "cenet": ((f"enhancement/{_ONE}", "text", r"\1"),),
    # One stack for all three; a memory is over the text, whatever that has read before.
    "dlf": (
        *((f"shared/layer_[0-9]+/attention{_calls(n, 3)}", m, m) for n, m in enumerate(MODALITIES, start=1)),
        (f"{_ONE}_memory/", "text", "text"),
    ),
}
_PAIR, _SINGLE = re.compile(f"{_ONE}_from_{_ONE}"), re.compile(f"(?<![a-z]){_ONE}(?![a-z])")
#: The paths of blocks that join the groups of a split modality.
_JOIN = re.compile(f"(?:^|/|_){_ONE}(?:_input)?(?:/fine_grained)?/attention$")


def named(model: str, path: str) -> tuple[str, str]:
    """What the queries and the keys of an attention module are, as :class:`Map` has them.

    Args:
      model: the model's name.
      path: of the module in the parameter tree.

    Returns:
      Twice "" where the path does not say.
    """
    for pattern, queries, keys in _OF_MODELS.get(model, ()):
        if found := re.match(pattern, path):
            return found.expand(queries), found.expand(keys)
    if pair := _PAIR.search(path):
        return pair[1], pair[2]
    single = set(_SINGLE.findall(path))
    return (single.copy().pop(), single.pop()) if len(single) == 1 else ("", "")


def _of_groups(path: str, both: tuple[str, str]) -> tuple[str, str]:
    """The names where a block reads over the groups of a modality instead of over its steps."""
    found = _JOIN.search(path)
    return (f"{found[1]} groups", f"{found[1]} groups") if found else both
