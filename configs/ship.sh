#!/usr/bin/env bash
# Make the shipped weights of a tracker from nothing: weights, and graphs beside them.
#   configs/ship.sh swift      FOOTAGE VALIDATION WORK fear_xs_search.onnx
#   configs/ship.sh swift-nano FOOTAGE VALIDATION WORK nanotrackv3_backbone.onnx nanotrackv3_head.onnx
#   configs/ship.sh siamfc     FOOTAGE VALIDATION WORK
# FOOTAGE holds a folder for each source that the recipe's `mix` names; VALIDATION clips that are in none of them. All is
# written into WORK, which ends up with NAME.safetensors and NAME/; what was stopped goes on. RECIPE is another YAML than
# that of the shipped weights, MINUTES another length than theirs: 45, 20 and 105, on one thread.
set -euo pipefail
case "$#:${1:-}" in
  5:swift | 6:swift-nano | 4:siamfc) ;;
  *)
    sed -n '2,9s/^# //p' "$0" >&2
    exit 2
    ;;
esac
name=$1 footage=$2 validation=$3 work=$4
shift 4
recipe=${RECIPE:-$(dirname "$0")/$name.yaml} store=$work/store start=$work/start.safetensors run=$work/run
learnt=$run/last.safetensors weights=$work/$name.safetensors
mkdir -p "$work"

fit() { # MINUTES [--from START]
  siamtrack train fit --config "$recipe" --store "$store" --out "$run" --minutes "${MINUTES:-$1}" --threads 1 "${@:2}"
}

[ -e "$store" ] || siamtrack train prepare "$footage"/*/ --store "$store"
case $name in
  swift)
    siamtrack train convert --fear "$1" --out "$start"
    fit 45 --from "$start"
    siamtrack train calibrate --weights "$learnt" --data "$validation" --work "$work/calibration" --out "$weights"
    ;;
  swift-nano)
    siamtrack train convert --nanotrack-v3 "$1" "$2" --out "$start"
    fit 20 --from "$start"
    cp "$learnt" "$weights"
    ;;
  siamfc)
    fit 105
    cp "$learnt" "$weights"
    ;;
esac
[ "$name" = siamfc ] || siamtrack export "$weights" --out "$work/$name" --force # siamfc's are made when it is loaded
