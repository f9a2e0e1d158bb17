"""The pages that a user reads: their code blocks, and the commands in them as bash would start them."""

import dataclasses
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "launch" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
#: Says what bash would start instead of starting it: without a PATH, all that is not built in ends here.
#: A command is written as one line and thereby at once: those in the background write at the same time.
_RECORD = """
command_not_found_handle() {
  local words; printf -v words '%s\\x1f' "$@"
  printf '%s\\n' "${words//$'\\n'/$'\\x1e'}" >&9
}
PATH=/nowhere
set -eu
"""


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      language: the word behind the fence.
      title: a file's name where the block is that file's content, else "".
      code: what stands inside.
    """

    language: str
    title: str
    code: str


def name_of(page: pathlib.Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: pathlib.Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    return [Block(*found) for found in _FENCE.findall(page.read_text(encoding="utf-8"))]


def prose(page: pathlib.Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(code: str, folder: pathlib.Path) -> list[list[str]]:
    """The words of every command that bash starts for this code, loops and variables expanded.

    Args:
      code: lines for bash.
      folder: where bash stands; redirections may leave empty files there.
    """
    out = folder / "commands.recorded"
    with out.open("wb") as file:
        script = f"exec 9>&{file.fileno()}\n{_RECORD}{code}\nwait\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=folder,
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, f"bash does not take this:\n{code}\n{done.stderr}"
    lines = out.read_text(encoding="utf-8").split("\n")[:-1]
    out.unlink()
    return [line.replace("\x1e", "\n").split("\x1f")[:-1] for line in lines]
