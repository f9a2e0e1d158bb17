"""Answers requests for scores over HTTP.

    msa-jax serve --workdir=RUN [--port=8000] [--host=127.0.0.1]

RUN is the folder of a run, or one that ``msa-jax export`` wrote as StableHLO or ONNX. Needs the [serve]
extra. Ctrl-C or SIGTERM end it after the requests at work.
"""

import pathlib
import signal

from msa_jax import messages
from msa_jax.commands.usage import Parser
from msa_jax.errors import ConfigError, stopped_by_sigterm


def main(argv: list[str]) -> int:
    """Serves; returns 128 and the signal's number at the end."""
    parser = Parser(
        "serve",
        "Scores clips that clients send over HTTP: features as JSON, or media files; with a page at /.",
        ["serve --workdir=runs/first --port=8000"],
    )
    parser.add_argument(
        "--workdir",
        required=True,
        type=pathlib.Path,
        metavar="DIR",
        help="folder of a run, or of an export as stablehlo or onnx",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine alone; 0.0.0.0: all that reach it)",
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="default: 8000; 0: any free one")
    parser.add_argument(
        "--max-body", type=float, default=64, metavar="MIB", help="of a request (default: 64)"
    )
    parser.add_argument("--max-clips", type=int, default=256, metavar="N", help="of a request (default: 256)")
    parser.add_argument(
        "--timeout", type=float, default=120, metavar="SECONDS", help="of a request (default: 120)"
    )
    parser.add_argument(
        "--max-length",
        type=float,
        default=600,
        metavar="SECONDS",
        help="that a media file may play (default: 600)",
    )
    options = parser.parse_args(argv)
    messages.set_up(options)
    for name in ("max_body", "max_clips", "timeout", "max_length"):
        if not 0 < getattr(options, name) < 1e9:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag}={getattr(options, name):g} must be above 0 and below 1e9.")
    if not 0 <= options.port < 2**16:
        raise ConfigError(f"--port={options.port} must be from 0 to 65535.")
    # Here, not at the top: --help and mistyped options need not wait for JAX to start.
    from msa_jax.serve import app, opening, server
    from msa_jax.serve.limits import Limits
    from msa_jax.training import build

    app.require()
    build.use_compile_cache("")
    limits = Limits(
        int(options.max_body * 2**20), options.max_clips, options.timeout, media_seconds=options.max_length
    )
    try:
        with stopped_by_sigterm(), server.bound(options.host, options.port) as listening:
            server.run(opening.open_scorer(options.workdir, limits), listening, limits)
    except KeyboardInterrupt as interruption:
        number = interruption.args[0] if interruption.args else signal.SIGINT
        messages.LOGGER.info("stopped by %s.", signal.Signals(number).name)
        return 128 + number
    return 0
