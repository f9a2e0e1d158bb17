"""Tunes a model's settings by its validation score."""

import pathlib

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser, add_compile_cache
from msa_jax.errors import ConfigError


def main(argv: list[str]) -> int:
    """The command; returns 1 where a seed of the winner failed. The same one goes on with what is left."""
    parser = Parser(
        "tune",
        "Draws settings from a space, trains each draw, and keeps the one with the best validation score; "
        "the test split is not looked at. The winner is then trained with several seeds, and their table has "
        "the first test figures. The same command goes on with a tuning that was stopped, and several "
        "processes that are started with it share the trials.",
        [
            "tune --config=configs/mosi.py:tfn --space=configs/spaces/tfn.py --workdir=runs/tune",
        ],
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="PATH.py[:ARGUMENT]",
        help="configuration of all trials; any setting that is not drawn is changed with --config.KEY=VALUE",
    )
    parser.add_argument(
        "--space",
        required=True,
        metavar="PATH.py[:ARGUMENT]",
        help="what is drawn for which setting; configs/spaces/MODEL.py has one for every model",
    )
    parser.add_argument(
        "--workdir", required=True, metavar="DIR", help="folder of the tuning; made if absent"
    )
    parser.add_argument(
        "--trials", type=int, default=50, metavar="N", help="how many draws altogether (default: 50)"
    )
    parser.add_argument("--seed", type=int, default=1111, metavar="N", help="of the draws (default: 1111)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        metavar="N",
        help="seeds that the winner is trained with, in DIR/study (default: 5; 0: none)",
    )
    add_compile_cache(parser)
    arguments, rest = parser.parse_known_args(argv)
    overrides = configuration.read_overrides(parser, rest)
    messages.set_up(arguments)
    if arguments.seeds < 0:
        raise ConfigError(f"--seeds={arguments.seeds} must be at least 0.")
    from msa_jax.training import build
    from msa_jax.tuning import run

    build.use_compile_cache(arguments.compile_cache)
    workdir = pathlib.Path(arguments.workdir)
    best = run.tune(arguments.config, arguments.space, workdir, overrides, arguments.trials, arguments.seed)
    if best is None:
        return 0
    run.show(best)
    if not arguments.seeds:
        return 0
    failed = run.retrain(best, workdir / "study", arguments.seeds, compile_cache=arguments.compile_cache)
    return 1 if failed else 0
