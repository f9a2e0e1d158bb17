#!/bin/bash
# A TPU VM slice of one or more hosts, over ssh with gcloud: copies this folder to every host,
# installs it, and starts the same command on all of them; JAX finds the other hosts by the slice's metadata.
#   TPU=my-slice ZONE=us-east5-b bash launch/tpu_vm.sh --config=configs/mosei.py \
#     --config.data.path=/mnt/shared/mosei --workdir=/mnt/shared/runs/mosei
# Data and --workdir must lie where every host sees them under the same name (Filestore, a mounted bucket).
# The same command goes on with a run that was stopped. DRY_RUN=1 prints the commands.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TPU:?name of the TPU VM}" "${ZONE:?its zone}"

run() {
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

hosts=(--zone="$ZONE" --worker=all)
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
run tar --create --gzip --file="$archive" pyproject.toml README.md LICENSE configs msa_jax
run gcloud compute tpus tpu-vm scp "$archive" "$TPU":msa_jax.tar.gz "${hosts[@]}"
run gcloud compute tpus tpu-vm ssh "$TPU" "${hosts[@]}" --command="mkdir -p msa_jax_run && \
tar --extract --gzip --file=msa_jax.tar.gz --directory=msa_jax_run && cd msa_jax_run && \
python3 -m venv env && env/bin/pip install --quiet -e . 'jax[tpu]'"
# Quoted twice: for this shell and for the one on the hosts.
run gcloud compute tpus tpu-vm ssh "$TPU" "${hosts[@]}" \
  --command="cd msa_jax_run && env/bin/python -m msa_jax.main --distributed $(printf '%q ' "$@")"
