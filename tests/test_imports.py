"""Imports run one way, and importing a module does nothing else."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "msa_jax"
#: The rooms from the cellar upwards; a room imports itself and what stands lower. Rooms in one row know
#: nothing of each other.
FLOORS = (
    ("errors", "messages"),
    ("files",),
    ("synonyms",),
    ("configuration",),
    ("typed_settings",),
    ("data",),
    ("metrics",),
    ("nn",),
    ("robust",),
    ("models",),
    ("weights",),
    ("media",),
    ("training",),
    ("inference",),
    ("explain", "export", "reports", "summary"),
    ("studies", "serve"),
    ("tuning",),
    ("commands",),
    ("main", "__main__", "__init__"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The room of ``msa_jax.data.spec`` is data."""
    return [*module.split("."), "__init__"][1]


def imported(path: pathlib.Path) -> list[str]:
    """The modules of ours that a file imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            whole = node.module == "msa_jax"
            found += [f"msa_jax.{a.name}" for a in node.names] if whole else [node.module or ""]
    return [name for name in found if name.split(".")[0] == "msa_jax"]


def arrows_upward(path: pathlib.Path, modules: list[str]) -> list[str]:
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    if relative.parts[-1] == "run.py" and "standalone" in relative.parts:
        return modules  # it is copied into exports and may know nothing of us
    mine = FLOOR_OF[room]
    return [m for m in modules if room_of(m) != room and FLOOR_OF[room_of(m)] >= mine]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert arrows_upward(path, imported(path)) == []


def test_an_arrow_upward_is_found():
    assert arrows_upward(PACKAGE / "data" / "spec.py", ["msa_jax.training.loop", "msa_jax.errors"]) == [
        "msa_jax.training.loop"
    ]
    assert arrows_upward(PACKAGE / "reports" / "page.py", ["msa_jax.export.onnx"]) == ["msa_jax.export.onnx"]


def test_importing_the_package_loads_no_heavy_package():
    heavy = ["flax", "jax", "matplotlib", "numpy", "orbax"]
    code = f"import sys, msa_jax; assert not [name for name in {heavy} if name in sys.modules]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
