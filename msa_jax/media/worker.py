"""Extracts clips that its standard input names, in a process of its own: ``python -m msa_jax.media.worker``.

A line of the input is a job, pickled by the parent. A line of the output is the answer, JSON, so that a clip
that takes this process over cannot hand the parent anything that is executed.
"""

import base64
import contextlib
import json
import os
import pickle
import signal
import sys
from typing import BinaryIO

from msa_jax.errors import MsaJaxError
from msa_jax.media import extraction

#: Address space of the process; MediaPipe and Whisper's small models take two.
MOST_BYTES = 8 << 30


def main() -> None:
    """Answers job by job until the input ends."""
    answers = _ready()
    for line in sys.stdin.buffer:
        clip, plan, recipe, scratch, target = pickle.loads(base64.b64decode(line))
        answer = {"reason": ""}
        try:
            extraction.extract(clip, plan, recipe, scratch).write(target)
        except MsaJaxError as error:
            answer["reason"] = str(error)
        except MemoryError:
            answer["reason"] = f"{clip.path} needs more than {MOST_BYTES >> 30} GiB of memory; cut it."
        except Exception as error:  # of a library, or of ours
            said = f"{type(error).__name__}: {error!s:.200}"
            answer["reason"] = f"{clip.path} cannot be extracted ({said}); convert it again."
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _ready() -> BinaryIO:
    """Limits the process's memory and keeps libraries quiet; returns where answers go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    answers = os.fdopen(os.dup(1), "wb")
    # Libraries in C++ write to the terminal by number.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return answers


if __name__ == "__main__":
    main()
