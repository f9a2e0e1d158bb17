"""The optimiser of a configuration."""

import fnmatch
import math
from collections.abc import Collection, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import optax

from msa_jax.configuration import Config, require_choice
from msa_jax.errors import ConfigError
from msa_jax.models.objectives import Prelude
from msa_jax.nn.fine_grained import paths_of_blocks
from msa_jax.training.accumulate import Optimizer

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "plateau")
#: Where every model keeps the text encoder that it trains along, if it does.
ENCODER = "text_encoder/"
#: What is new in an encoder trains with what stands behind it, unless a group names it.
_NEW = f"{ENCODER}bert/mix/*"
#: Behind the name of a group, for those of its parameters that train.fg_decay=False spares.
_BLOCK = ", fg block"
GROUP_KEYS = ("paths", "learning_rate", "weight_decay", "warmup_epochs")


def build_schedule(train: Config, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate per update: linear warm-up from 0, then the schedule down to the last epoch.

    "plateau" is constant here; the loop lowers ``TrainState.rate_scale``.
    """
    return _schedule(train, steps_per_epoch, train.learning_rate)


def _schedule(train: Config, steps_per_epoch: int, peak: float) -> optax.Schedule:
    """:func:`build_schedule` with another highest rate."""
    require_choice("train.schedule", train.schedule, SCHEDULES)
    updates = max(steps_per_epoch * train.epochs // train.accumulate, 1)
    warmup = min(round(train.warmup_epochs * steps_per_epoch / train.accumulate), updates)
    rest = max(updates - warmup, 1)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "plateau": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
    }[train.schedule]()
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def rates_after(train: Config, steps_per_epoch: int, groups: Collection[str], steps: int) -> dict[str, float]:
    """The learning rate of each group in the last update of so many steps; the plateau's factor aside.

    Args:
      train: the training block.
      steps_per_epoch: batches of an epoch.
      groups: names, see :func:`group_names`.
      steps: batches so far.
    """
    updates = max(steps // train.accumulate, 1)
    share: Any = _schedule(train, steps_per_epoch, 1.0)(updates - 1)

    def rate(group: Config) -> float:
        warmup = round(group.get("warmup_epochs", 0.0) * steps_per_epoch / train.accumulate)
        risen = min((updates - 1) / warmup, 1.0) if warmup else 1.0
        return group.get("learning_rate", train.learning_rate) * float(share) * risen

    return {name: rate(train.groups.get(name, {})) for name in groups}


def group_names(train: Config, frozen: tuple[str, ...], params: Any) -> Any:
    """The optimiser group of each parameter: a tree like ``params`` with a name in every leaf.

    Args:
      train: the training block; of its ``groups`` the one with the longest matching pattern counts,
        "other" is what none matches.
      frozen: patterns of paths that are not trained; their group is "frozen".
      params: parameters or their shapes.

    Raises:
      ConfigError: if a group matches nothing (a group of the text encoder may, where none is trained).
    """
    patterns = [(p, name) for name, group in train.groups.items() for p in _patterns(group.paths)]
    patterns.append((_NEW, "other"))
    patterns.sort(key=lambda pair: -len(pair[0]))

    def name_of(path: Any, _leaf: Any) -> str:
        place = _place(path)
        if any(fnmatch.fnmatchcase(place, p) for p in frozen):
            return "frozen"
        return next((name for p, name in patterns if fnmatch.fnmatchcase(place, p)), "other")

    names = jax.tree_util.tree_map_with_path(name_of, params)
    used = set(jax.tree.leaves(names))
    has_encoder = ENCODER.rstrip("/") in params
    for name, group in train.groups.items():
        of_encoder = all(p.startswith(ENCODER) for p in _patterns(group.paths))
        if name not in used and (has_encoder or not of_encoder):
            raise ConfigError(
                f"train.groups.{name}.paths={train.groups[name].paths!r} matches no parameter (or only those "
                "of another group with a longer pattern); `msa-jax summarize` lists the paths."
            )
    return names


def describe_groups(
    train: Config,
    names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    prelude: Prelude | None = None,
) -> dict[str, dict[str, float]]:
    """What each group that holds parameters trains with.

    Args:
      train: the training block.
      names: the group of each parameter, by path; "prelude" is what ``prelude`` trains.
      shapes: the parameters' shapes, by path.
      prelude: of the objective.

    Returns:
      {group: {"parameters": how many numbers, "learning_rate": at its peak, "weight_decay"}}.
    """
    rates = {
        name: (group.get("learning_rate", train.learning_rate), group.get("weight_decay", train.weight_decay))
        for name, group in train.groups.items()
    }
    rates |= {"other": (train.learning_rate, train.weight_decay), "frozen": (0.0, 0.0)}
    if not train.fg_decay:
        rates |= {f"{name}{_BLOCK}": (rate, 0.0) for name, (rate, _) in rates.items()}
        of_block = paths_of_blocks(names)
        names = {path: f"{name}{_BLOCK}" if path in of_block else name for path, name in names.items()}
    if prelude is not None:
        rates["prelude"] = prelude.learning_rate, prelude.weight_decay
    return {
        group: {
            "parameters": sum(math.prod(shapes[path]) for path, name in names.items() if name == group),
            "learning_rate": rates[group][0],
            "weight_decay": rates[group][1],
        }
        for group in sorted(set(names.values()))
    }


def trained_groups(train: Config, frozen: tuple[str, ...], params: Any) -> tuple[str, ...]:
    """The names of the groups that hold parameters and are trained."""
    return tuple(sorted(set(jax.tree.leaves(group_names(train, frozen, params))) - {"frozen"}))


def gradient_norm(gradient: Any, frozen: tuple[str, ...]) -> jax.Array:
    """The global norm of the parameters' gradient, those aside that are not trained."""
    if not frozen:
        return optax.tree.norm(gradient)  # the same as clip_by_global_norm's, so that XLA computes it once
    paths = {_place(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)}
    still = matching(paths, frozen)
    return optax.tree.norm({path: leaf for path, leaf in paths.items() if path not in still})


def _patterns(paths: str) -> list[str]:
    return [p.strip() for p in paths.split(",") if p.strip()]


def check_groups(train: Config) -> None:
    """Raises ConfigError for a group with a missing or unknown key, or a number that cannot be."""
    for name, group in train.groups.items():
        unknown = [key for key in group if key not in GROUP_KEYS]
        if unknown or not group.get("paths") or type(group.paths) is not str:
            raise ConfigError(
                f"train.groups.{name} has the keys {', '.join(group) or 'none'}; it takes paths (needed), "
                "learning_rate, weight_decay and warmup_epochs."
            )
        for key in GROUP_KEYS[1:]:
            value = group.get(key, 0.0)
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ConfigError(f"train.groups.{name}.{key}={value!r} must be finite and not negative.")


def build_optimizer(
    train: Config, steps_per_epoch: int, compat: bool, frozen: tuple[str, ...] = ()
) -> Optimizer:
    """Clipping, weight decay, Adam, schedule, and accumulation, in the order PyTorch applies them.

    Args:
      train: the training block.
      steps_per_epoch: batches of an epoch.
      compat: sum accumulated gradients as the MMSA toolkit does, instead of averaging them, and clip
        their values after every batch instead of once.
      frozen: patterns of paths of parameters that are not trained.
    """
    require_choice("train.optimizer", train.optimizer, OPTIMIZERS)
    check_groups(train)
    decay = _weigh_decay(train, frozen)
    parts = []
    if frozen:
        parts.append(_scale_by_group(train, frozen, {"frozen": 0.0}))  # no part in the norm to clip
    if train.clip_value:
        parts.append(optax.clip(train.clip_value))
    if train.clip_norm:
        parts.append(optax.clip_by_global_norm(train.clip_norm))
    if decay and train.optimizer == "adam":
        parts.append(decay)
    parts.append(optax.scale_by_adam())
    if decay and train.optimizer == "adamw":
        parts.append(decay)
    rates = {name: group.learning_rate for name, group in train.groups.items() if "learning_rate" in group}
    # With rates of their own for some groups, the schedule gives the share of each group's rate. Not the
    # ratio to train.learning_rate, which may be 0.
    shares = _schedule(train, steps_per_epoch, 1.0) if rates else build_schedule(train, steps_per_epoch)
    parts.append(optax.scale_by_learning_rate(shares))
    if frozen or rates:
        other = train.learning_rate if rates else 1.0
        parts.append(_scale_by_group(train, frozen, rates | {"frozen": 0.0}, other))
    warmups = {
        name: round(group.warmup_epochs * steps_per_epoch / train.accumulate)
        for name, group in train.groups.items()
        if group.get("warmup_epochs")
    }
    if warmups:
        parts.append(_warm_groups(train, frozen, warmups))
    # The MMSA toolkit clips the growing sum after every batch; the chain's own clip then changes nothing.
    limit = train.clip_value if compat else 0.0
    return Optimizer(optax.chain(*parts), train.accumulate, mean=not compat, limit=limit)


def _weigh_decay(train: Config, frozen: tuple[str, ...]) -> optax.GradientTransformation | None:
    """Adds each parameter times the weight decay of its group; None if there is none."""
    decays = {name: group.get("weight_decay", train.weight_decay) for name, group in train.groups.items()}
    if not train.weight_decay and not any(decays.values()):
        return None
    if not decays and train.fg_decay:
        return optax.add_decayed_weights(train.weight_decay)

    def update(updates: Any, params: Any) -> Any:
        names = group_names(train, frozen, params)
        spared = (
            set()
            if train.fg_decay
            else paths_of_blocks(_place(path) for path, _ in jax.tree_util.tree_leaves_with_path(params))
        )

        def decayed(path: Any, u: Any, p: Any, name: str) -> Any:
            return u if _place(path) in spared else u + decays.get(name, train.weight_decay) * p

        return jax.tree_util.tree_map_with_path(decayed, updates, params, names)

    return optax.stateless(update)


def _place(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _scale_by_group(
    train: Config, frozen: tuple[str, ...], factors: dict[str, float], other: float = 1.0
) -> optax.GradientTransformation:
    """Multiplies each parameter's update by the factor of its group (``other`` for those not listed)."""

    def update(updates: Any, _params: Any) -> Any:
        names = group_names(train, frozen, updates)
        return jax.tree.map(lambda u, n: u * factors.get(n, other), updates, names)

    return optax.stateless(update)


def _warm_groups(
    train: Config, frozen: tuple[str, ...], warmups: Mapping[str, int]
) -> optax.GradientTransformation:
    """Lets the rate of some groups rise linearly from 0 over so many updates."""

    def init(params: Any) -> Any:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        names = group_names(train, frozen, updates)
        factors = {
            name: jnp.minimum(state.count / max(updates_, 1), 1.0) for name, updates_ in warmups.items()
        }
        scaled = jax.tree.map(lambda u, n: u * factors[n] if n in factors else u, updates, names)
        return scaled, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def matching(params: Mapping[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    """The entries of flat parameters {path: array} that one of the patterns ``paths`` matches."""
    return {k: v for k, v in params.items() if any(fnmatch.fnmatchcase(k, p) for p in paths)}


def build_prelude(prelude: Prelude) -> optax.GradientTransformation:
    """The optimiser of an objective's prelude."""
    parts = []
    if prelude.clip_norm:
        parts.append(optax.clip_by_global_norm(prelude.clip_norm))
    if prelude.weight_decay:
        parts.append(optax.add_decayed_weights(prelude.weight_decay))
    return optax.chain(*parts, optax.adam(prelude.learning_rate))


def prelude_state(prelude: Prelude | None, params: Any) -> Any:
    """The fresh state of :func:`build_prelude` for the parameters that it trains; () without a prelude."""
    if prelude is None:
        return ()
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    return build_prelude(prelude).init(matching(flat, prelude.paths))
