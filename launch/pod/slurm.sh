#!/usr/bin/env bash
# Trains on the nodes of a Slurm job, one process per node with all its GPUs; a preempted job is queued again.
# launch/pod/slurm.sh --nodes=N [--gpus=8] [--time=24:00:00] [--dry-run] -- --config=... --workdir=...
# Start it in the repository, with its environment made; --workdir must be on storage that all nodes share.
set -euo pipefail

nodes="" gpus=8 time=24:00:00 dry=""
while (($#)); do
    case "$1" in
        --nodes=*) nodes=${1#*=} ;;
        --gpus=*) gpus=${1#*=} ;;
        --time=*) time=${1#*=} ;;
        --dry-run) dry=1 ;;
        --) shift; break ;;
        *) echo "error: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
[[ -n $nodes && $# -gt 0 ]] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }

# Slurm sends SIGTERM to all processes 120 s before the end: they save and exit, and the job goes to the queue again.
script="#!/usr/bin/env bash
#SBATCH --job-name=jaxseq --nodes=$nodes --ntasks-per-node=1 --gpus-per-node=$gpus --time=$time
#SBATCH --requeue --signal=TERM@120 --open-mode=append
first=\$(scontrol show hostnames \"\$SLURM_JOB_NODELIST\" | head -n 1)
port=\$((20000 + SLURM_JOB_ID % 20000))
srun --kill-on-bad-exit=1 bash -c '.venv/bin/python launch/train.py \\
    --coordinator='\"\$first:\$port\"' --processes=\$SLURM_NTASKS --process=\$SLURM_PROCID \"\$@\"' train ${*@Q}
code=\$?
# A run that is over says so; one that was stopped, or lost a node, goes on when the job runs again.
((code)) || grep -q \"stopped at step\" <(tail -n 20 \"slurm-\$SLURM_JOB_ID.out\") || exit 0
scontrol requeue \"\$SLURM_JOB_ID\""

if [[ $dry ]]; then
    echo "would submit with sbatch:"
    echo "$script"
    exit 0
fi
sbatch <<<"$script"
