#!/bin/bash
# Whether the package works with the versions that Colab ships: installs it with them in a fresh environment,
# trains the tiny configuration, scores with it and exports it. Takes a few minutes.
#   bash launch/check_colab_versions.sh        PYTHON=python3.12 bash launch/check_colab_versions.sh
# DRY_RUN=1 prints the commands.
set -euo pipefail
cd "$(dirname "$0")/.."

run() {
  printf '$ %s\n' "$(printf '%q ' "$@")"
  if [ -z "${DRY_RUN:-}" ]; then "$@"; fi
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=$folder/env/bin/python
export XLA_FLAGS=--xla_backend_optimization_level=0 # compiles in a fraction of the time
run "${PYTHON:-python3}" -m venv "$folder/env"
# A copy, since building in the source tree would leave files there.
run cp -R pyproject.toml README.md LICENSE msa_jax configs launch "$folder"
run cd "$folder"
run "$python" -m pip install --quiet --constraint launch/colab_versions.txt .
run "$python" -m pip check
run "$python" -m msa_jax.main --config=configs/synthetic.py:tiny --workdir=run --compile-cache=off
run "$python" -m msa_jax export --workdir=run --format=stablehlo --out=export
run "$python" -m msa_jax export --workdir=run --format=safetensors --out=weights
