"""The server's process: its socket, its signals, its end."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from msa_jax.errors import RunError
from msa_jax.messages import LOGGER
from msa_jax.serve import app, batcher
from msa_jax.serve.limits import Limits
from msa_jax.serve.scorer import Scorer

#: Seconds that requests at work have after a signal.
_GRACE = 5


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket of this address, which nobody can connect to yet.

    Args:
      host: an address or name of this machine.
      port: 0 takes a free one.

    Raises:
      RunError: if it is taken or not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise RunError(f"--host={host} is no address of this machine ({error}).") from error
    with found:
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError as error:
            raise RunError(
                f"cannot listen on {host}, port {port} ({error.strerror}); give another --port "
                "(0: any free one)."
            ) from error
        yield found


def run(scorer: Scorer, listening: socket.socket, limits: Limits) -> None:
    """Warms the model up and answers requests until a signal comes, which is raised again at the end.

    Args:
      scorer: the model.
      listening: see :func:`bound`.
      limits: of a request.
    """
    import uvicorn

    batcher.warm_up(scorer)
    host, port = listening.getsockname()[:2]
    made = app.create_app(scorer, limits, local=ipaddress.ip_address(host).is_loopback)
    listening.listen()  # before it is said: who reads the line may connect at once
    LOGGER.info("serving at http://%s:%d", f"[{host}]" if ":" in host else host, port)
    config = uvicorn.Config(
        made,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        made.state.service.close()
