#!/bin/bash
# Everything that wants a machine with a GPU and 16 cores, within SECONDS_ALL seconds, in the repository's root:
# on the cores, tuning runs of crossq and xqc, one thread each; beside them, on the GPU, its tests, parity and speed.
#
#   OUT=/tmp/out bash benchmarks/modern/device.sh
#
# Results in $OUT, whenever it is stopped: tuning.csv, gpu-parity.csv, gpu-speed.csv, gpu.txt, tuning.txt, log.txt.
# For a dry run without a GPU: DRY=1.
set -u
: "${OUT:?a folder for the results}" "${SECONDS_ALL:=530}" "${DRY:=}" "${PYTHON:=python3}"
export PYTHONPATH=$PWD/src:$PWD/tests${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
export TORCHINDUCTOR_COMPILE_THREADS=1 MUJOCO_GL=disable
work=$(mktemp -d) && mkdir -p "$work/tune" "$OUT"
export XDG_CACHE_HOME=$work/cache
log() { echo "$(date +%T) $*" | tee -a "$OUT/log.txt"; }
gather() { # the rows of all runs in one file
  awk 'FNR > 1 || NR == 1' "$work"/tune/*.csv >"$OUT/tuning.csv" 2>/dev/null
  tail -qn 3 "$work"/tune/*.txt >"$OUT/tuning.txt" 2>/dev/null
}
left() { echo $((SECONDS_ALL - SECONDS)); }
trap 'gather; rm -rf "$work"' EXIT

log "$(nproc --all) cores, $($PYTHON -c 'import torch; print(torch.__version__, torch.cuda.is_available() and torch.cuda.get_device_name())')"
grep -m1 'model name' /proc/cpuinfo | tee -a "$OUT/log.txt"
grep -om1 amx_bf16 /proc/cpuinfo | tee -a "$OUT/log.txt"
command -v g++ >/dev/null || log "no g++: updates run eagerly on the cores"
$PYTHON -c 'from softac.learning.engine import what_compiling_lacks as w; print("compiler lacks:", w() or "nothing")' 2>&1 | tee -a "$OUT/log.txt"

# variant env seed
runs=$(for variant in target target-3e-4 target-entropy target-gamma-0.995 target-delay-1 xqc-3e-4; do
  for env in Hopper-v5 Walker2d-v5; do echo "$variant $env 100"; done
done; echo "target HalfCheetah-v5 100"; echo "target Ant-v5 100")
steps=100000 every=5000 tests="tests/test_cuda.py" seconds=8 device=cuda only=sac,crossq,xqc
if [ -n "$DRY" ]; then
  runs=$(head -n 2 <<<"$runs") steps=6000 every=1000 seconds=1 device=cpu only=crossq
fi

pids=()
while read -r variant env seed; do
  $PYTHON benchmarks/modern/tune.py "$variant" "$env" "$seed" "$work/tune/$variant-$env-$seed.csv" --steps $steps \
    --every $every --seconds $((SECONDS_ALL - SECONDS - 20)) >"$work/tune/$variant-$env-$seed.txt" 2>&1 &
  pids+=($!)
done <<<"$runs"
log "${#pids[@]} tuning runs begun"

gpu() { # seconds, name, command...
  local limit=$1 name=$2
  shift 2
  [ "$(left)" -gt 40 ] || return
  [ "$limit" -lt $(($(left) - 20)) ] || limit=$(($(left) - 20))
  log "$name: at most $limit s"
  timeout "$limit" "$@" >>"$OUT/gpu.txt" 2>&1
  log "$name: exit code $?"
}
pytest=($PYTHON -m pytest -p no:cacheprovider -o addopts= -o filterwarnings=default -q)
gpu 100 gpu-tests "${pytest[@]}" $tests
gpu 120 gpu-parity $PYTHON benchmarks/modern/gpu.py parity "$OUT/gpu-parity.csv" --device $device --only $only
gpu 260 gpu-speed $PYTHON benchmarks/modern/gpu.py speed "$OUT/gpu-speed.csv" --device $device --only $only --seconds $seconds
gpu 200 gpu-engine-tests "${pytest[@]}" tests/test_engine.py tests/test_cohort.py -k "gpu and (sac or crossq or xqc) and not sac_"

while [ "$(left)" -gt 10 ] && [ -n "$(jobs -rp)" ]; do
  sleep 2
  gather
done
log "stopping"
for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
wait
