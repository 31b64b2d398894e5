#!/usr/bin/env bash
# Trains on a TPU slice of GKE, as the JobSet of launch/pod/jobset.yaml.
# launch/pod/jobset.sh --name=NAME --image=IMAGE --accelerator=tpu-v5-lite-podslice --topology=4x4 --hosts=4 \
#     --claim=VOLUME_CLAIM [--chips=4] [--dry-run] -- --config=... --workdir=/runs/...
set -euo pipefail

name="" image="" accelerator="" topology="" hosts="" claim="" chips=4 dry=""
while (($#)); do
    case "$1" in
        --name=* | --image=* | --accelerator=* | --topology=* | --hosts=* | --claim=* | --chips=*)
            key=${1%%=*}
            printf -v "${key#--}" %s "${1#*=}"
            ;;
        --dry-run) dry=1 ;;
        --) shift; break ;;
        *) echo "error: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
[[ -n $name && -n $image && -n $accelerator && -n $topology && -n $hosts && -n $claim && $# -gt 0 ]] ||
    { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }

flags=""
for flag in "$@"; do
    flag=${flag//\\/\\\\}
    flags+="${flags:+, }\"${flag//\"/\\\"}\""
done
manifest=$(<"$(dirname "$0")/jobset.yaml")
manifest=${manifest//FLAGS/"$flags"}
for key in name image accelerator topology hosts claim chips; do
    manifest=${manifest//${key^^}/"${!key}"}
done

if [[ $dry ]]; then
    echo "# would apply with kubectl:"
    echo "$manifest"
    exit 0
fi
kubectl apply -f - <<<"$manifest"
