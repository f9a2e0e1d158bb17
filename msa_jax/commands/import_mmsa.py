"""Makes a run folder of weights that MMSA trained.

    msa-jax import-mmsa --model=mult --state=mult-mosi.pth --config=configs/mosi.py \\
        --config.data.path=unaligned_50.pkl --config.model.compat=true --workdir=runs/imported

The run evaluates, reports and predicts like one that we trained; with ``model.compat=true`` the scores are
those that the weights had in PyTorch. The file is read with PyTorch (the [torch] extra) as weights
only: nothing in it is executed.
"""

from typing import Any

from msa_jax import configuration, messages
from msa_jax.commands.usage import Parser
from msa_jax.errors import ConfigError


def _with_model(argument: str, model: str) -> str:
    """Puts the model's name into ``PATH.py[:ARGUMENT]``."""
    path, _, words = argument.partition(":")
    named = [w for w in words.split(",") if w and "=" not in w and w != "tiny"]
    if named and named != [model]:
        raise ConfigError(f"--model={model}, but --config={argument} names {named[0]}; give one of them.")
    return argument if named else f"{path}:{model},{words}".rstrip(",")


def main(argv: list[str]) -> None:
    """The command."""
    parser = Parser(
        "import-mmsa",
        "Makes a run folder of weights that MMSA trained; nothing in the file is executed.",
        [
            "import-mmsa --model=mult --state=mult-mosi.pth --config=configs/mosi.py "
            "--config.data.path=unaligned_50.pkl --config.model.compat=true --workdir=runs/imported"
        ],
        configured=True,
    )
    parser.add_argument("--model", required=True, help="our name of the model, for example mult")
    parser.add_argument("--state", required=True, metavar="FILE.pth", help="the weights that MMSA saved")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of the new run")
    arguments, rest = parser.parse_known_args(argv)
    messages.set_up(arguments)
    # Here, not at the top: --help need not wait for JAX to start.
    import jax

    from msa_jax.commands import train
    from msa_jax.data.batch import example_batch
    from msa_jax.training.adopt import adopt
    from msa_jax.weights import state_dict

    state_dict.peer_model(arguments.model)
    chosen = _with_model(arguments.config, arguments.model)
    others = [f"--{name}={getattr(arguments, name)}" for name in ("model", "state", "workdir")]
    _, config = configuration.parse_command(parser, [f"--config={chosen}", *others, *rest])
    arrays = state_dict.read_state_dict(arguments.state)

    def read(model: Any, spec: Any) -> Any:
        batch = jax.eval_shape(lambda: example_batch(spec, 1))
        return state_dict.import_state_dict(model, arrays, config.model, batch)

    train.show(config, arguments.workdir, adopt(config, arguments.workdir, read))
