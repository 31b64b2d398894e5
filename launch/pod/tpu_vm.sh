#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU slice, and starts again when one is preempted or fails.
# launch/pod/tpu_vm.sh --name=TPU --zone=ZONE [--folder=jaxseq] [--retries=100] [--dry-run] -- --config=... --workdir=...
# The repository lies in --folder of every worker, with its environment (make .venv/terminal.done, and jax[tpu]).
# --workdir must be storage that all workers share, such as a mounted bucket.
set -euo pipefail

name="" zone="" folder=jaxseq retries=100 dry=""
while (($#)); do
    case "$1" in
        --name=*) name=${1#*=} ;;
        --zone=*) zone=${1#*=} ;;
        --folder=*) folder=${1#*=} ;;
        --retries=*) retries=${1#*=} ;;
        --dry-run) dry=1 ;;
        --) shift; break ;;
        *) echo "error: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
[[ -n $name && -n $zone && $# -gt 0 ]] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }

# On a worker: its number and the first worker's address are in the machine's metadata.
attribute='curl -sfH Metadata-Flavor:Google http://metadata.google.internal/computeMetadata/v1/instance/attributes'
remote="cd ${folder@Q}
hosts=\$($attribute/worker-network-endpoints)
first=\${hosts%%,*}
exec .venv/bin/python launch/train.py --coordinator=\${first##*:}:8476 --processes=\$(tr , '\\n' <<<\"\$hosts\" | wc -l) \
--process=\$($attribute/agent-worker-number) ${*@Q}"
command=(gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$remote")

if [[ $dry ]]; then
    echo "would run, at most $((retries + 1)) times, until it succeeds:"
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
for ((attempt = 0; attempt <= retries; attempt++)); do
    "${command[@]}" && exit 0
    echo "attempt $((attempt + 1)) of $((retries + 1)) ended; again in 30 s" >&2
    sleep 30
done
exit 1
