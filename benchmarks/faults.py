"""How much of what can go wrong is survived: kills, damage, disks, clocks, changed files.

    python benchmarks/faults.py --count=200
    python benchmarks/faults.py --only=files --files=10000 --pickles=100000 --json

Prints one table: what was tried, how much of it was survived, what was lost, and why. A killed command is
started again and must give what it gives when nobody kills it, to the bit; a damaged checkpoint must be
noticed; a changed file must be read or refused in a sentence. Mounting small disks takes root; kinds that
cannot be had are named and left out. With --guided the changes of files follow the code that they reach
(``pip install atheris``).
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: Where the faults, and what they are made with, are.
PLACES = (ROOT / "tests" / "faults", ROOT / "tests", ROOT)
KINDS = ("kills", "damage", "disk", "files")


#: A kind of fault: its name, how often it was tried and was lost, and why.
Row = tuple[str, int, int, list[str]]


def file_campaign(files: int, pickles: int, seed: int, guided: list[str]) -> Iterator[Row]:
    """Changed files, each reader's in a process of its own."""
    import fault_files

    for target in fault_files.TARGETS:
        count = pickles if target == "pickle" else files
        command = [sys.executable, "-m", "fault_files", target, str(count), str(seed), *guided]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PLACES))}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment)
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
            yield f"files: {target}", count, 1, [f"its process ended with {ended.returncode}: {last:.100}"]
            continue
        found = json.loads(ended.stdout.splitlines()[-1])
        causes = [f"{cause} ({example:.60}...)" for cause, example in found["causes"]]
        if found["grown_mib"] > fault_files.GROWTH:
            causes.append(f"memory grew by {found['grown_mib']:.0f} MiB")
        yield f"files: {target}", count, max(found["lost"], len(causes)), causes


def counted(trials: Iterable[Any]) -> Iterator[Row]:
    """Trials by kind, in the order in which the kinds came."""
    tried: collections.Counter[str] = collections.Counter()
    causes: dict[str, list[str]] = collections.defaultdict(list)
    for trial in trials:
        kind = f"kill: {trial.what.split()[0]}" if trial.kind == "kill" else trial.kind
        tried[kind] += 1
        print(".", end="", file=sys.stderr, flush=True)
        if trial.cause:
            causes[kind].append(f"{trial.what}: {trial.cause}")
    print(file=sys.stderr)
    yield from ((kind, count, len(causes[kind]), causes[kind]) for kind, count in tried.items())


def rows_of(arguments: argparse.Namespace) -> Iterator[Row]:
    """What was tried, kind by kind."""
    import fault_damage
    import fault_disk
    import fault_jobs
    import fault_kills

    chosen = arguments.only.split(",") if arguments.only else list(KINDS)
    if "kills" in chosen:
        names = arguments.jobs.split(",") if arguments.jobs else list(fault_jobs.JOBS)
        yield from counted(fault_kills.campaigns(arguments.count, arguments.seed, names))
    if "damage" in chosen:
        yield from counted(fault_damage.campaign(arguments.count, arguments.seed))
    if "disk" in chosen:
        yield from counted(fault_disk.campaign())
    if "files" in chosen:
        yield from file_campaign(
            arguments.files, arguments.pickles, arguments.seed, ["--guided"] * arguments.guided
        )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=200, help="kills, and damaged checkpoints")
    parser.add_argument("--files", type=int, default=10_000, help="changed files of every kind but pickles")
    parser.add_argument("--pickles", type=int, default=100_000, help="changed feature files")
    parser.add_argument("--only", default="", help=f"some of {','.join(KINDS)}")
    parser.add_argument("--jobs", default="", help="some of the commands that are killed")
    parser.add_argument("--guided", action="store_true", help="have atheris change the files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    sys.path[:0] = map(str, PLACES)
    rows = [
        {"kind": kind, "tried": tried, "survived": tried - lost, "lost": lost, "causes": causes}
        for kind, tried, lost, causes in rows_of(arguments)
    ]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{'kind':24}{'tried':>8}{'survived':>10}{'lost':>6}  cause")
        for row in rows:
            cause = row["causes"][0] if row["causes"] else ""
            print(f"{row['kind']:24}{row['tried']:8}{row['survived']:10}{row['lost']:6}  {cause}")
    return 1 if any(row["lost"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
