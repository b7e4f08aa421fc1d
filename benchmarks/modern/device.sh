#!/bin/bash
# Everything that wants a machine with a GPU and 16 cores, within SECONDS_ALL seconds, in the repository's root.
#
#   OUT=/tmp/out bash benchmarks/modern/device.sh                                 # tuning runs on the cores beside it
#   OUT=/tmp/out RUNS=pendulum SECONDS_ALL=300 bash benchmarks/modern/device.sh   # tuning runs of 10,000 steps
#   OUT=/tmp/out TUNE=0 SECONDS_ALL=300 bash benchmarks/modern/device.sh          # the GPU alone
#
# RUNS, TUNE: which tuning runs, and how many of them at most, one thread each. On the GPU first everything that is no timing, side by side:
# parity of each algorithm, why something does not compile, the tests; then, alone on it, steps per second.
# Results in $OUT, whenever it is stopped: gpu-parity.csv, gpu-speed.csv, gpu.txt, tuning.csv, tuning.txt, log.txt.
# For a dry run without a GPU: DRY=1.
set -u
: "${OUT:?a folder for the results}" "${SECONDS_ALL:=530}" "${DRY:=}" "${PYTHON:=python3}" "${TUNE:=14}" "${RUNS:=mujoco}"
export PYTHONPATH=$PWD/src:$PWD/tests${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
export TORCHINDUCTOR_COMPILE_THREADS=1 MUJOCO_GL=disable
work=$(mktemp -d) && mkdir -p "$work/tune" "$work/gpu" "$OUT"
export XDG_CACHE_HOME=$work/cache
log() { echo "$(date +%T) $*" | tee -a "$OUT/log.txt"; }
together() { awk 'FNR > 1 || NR == 1' "$@" 2>/dev/null; } # the rows of several tables under one head
gather() {
  together "$work"/gpu/parity-*.csv >"$OUT/gpu-parity.csv"
  together "$work"/gpu/speed-*.csv >"$OUT/gpu-speed.csv"
  for file in "$work"/gpu/*.txt; do [ -f "$file" ] && echo "== $(basename "$file" .txt)" && cat "$file"; done >"$OUT/gpu.txt"
  [ "$TUNE" = 0 ] && return
  together "$work"/tune/*.csv >"$OUT/tuning.csv"
  tail -qn 3 "$work"/tune/*.txt >"$OUT/tuning.txt" 2>/dev/null
}
left() { echo $((SECONDS_ALL - SECONDS)); }
trap gather EXIT

log "$(nproc --all) cores, $($PYTHON -c 'import torch; print(torch.__version__, torch.cuda.is_available() and torch.cuda.get_device_name())')"
grep -m1 'model name' /proc/cpuinfo | tee -a "$OUT/log.txt"
grep -om1 amx_bf16 /proc/cpuinfo | tee -a "$OUT/log.txt"
command -v g++ >/dev/null || log "no g++: updates run eagerly on the cores"

steps=100000 every=5000 until=$((SECONDS_ALL - 20)) seconds=6 device=cuda algorithms="crossq xqc sac"
tests=(tests/test_engine.py tests/test_cohort.py tests/test_cuda.py)
if [ "$RUNS" = pendulum ]; then # done before steps are timed; seeds 100 and up are for tuning
  steps=10000 every=1000 until=160
  runs=$(for variant in sac one one-3e-4 one-1e-4 one-beta-0.9 one-scale-30 one-3e-4-delay-1 target target-3e-4 \
    target-scale-30 target-scale-30-3e-4 xqc xqc-3e-4; do echo "$variant Pendulum-v1 100"; done)
else
  runs=$(for variant in target target-3e-4 target-entropy target-gamma-0.995 target-delay-1 xqc-3e-4; do
    for env in Hopper-v5 Walker2d-v5; do echo "$variant $env 100"; done
  done; echo "target HalfCheetah-v5 100"; echo "target Ant-v5 100")
fi
runs=$(head -n "$TUNE" <<<"$runs")
if [ -n "$DRY" ]; then
  steps=600 every=200 seconds=1 device=cpu algorithms=crossq tests=(tests/test_cuda.py)
fi

pids=()
while read -r variant env seed; do
  [ -n "$variant" ] || continue
  $PYTHON benchmarks/modern/tune.py "$variant" "$env" "$seed" "$work/tune/$variant-$env-$seed.csv" --steps $steps --run-dir "$work/runs" \
    --every $every --seconds $((until - SECONDS)) >"$work/tune/$variant-$env-$seed.txt" 2>&1 &
  pids+=($!)
done <<<"$runs"
log "${#pids[@]} tuning runs begun"

limited() { # seconds, name, command...: its output in the folder of the GPU's
  local limit=$1 name=$2
  shift 2
  [ "$(left)" -gt 30 ] || return
  [ "$limit" -lt $(($(left) - 15)) ] || limit=$(($(left) - 15))
  log "$name: at most $limit s"
  timeout "$limit" "$@" >"$work/gpu/$name.txt" 2>&1
  log "$name: exit code $?"
}
[ "$TUNE" != 0 ] || export TORCHINDUCTOR_COMPILE_THREADS=4
first=()
limited 150 tests $PYTHON -m pytest -p no:cacheprovider -o addopts= -o filterwarnings=default -q "${tests[@]}" \
  -k "(cuda or gpu) and (sac or crossq or xqc or cuda) and not sac_" &
first+=($!)
[ -n "$DRY" ] || { limited 100 why $PYTHON benchmarks/modern/gpu.py why --only sac & first+=($!); }
for name in $algorithms; do
  limited 150 "parity-$name" $PYTHON benchmarks/modern/gpu.py parity "$work/gpu/parity-$name.csv" --device $device --only "$name" &
  first+=($!)
done
wait "${first[@]}"
gather
for name in $algorithms; do
  limited $((60 + 9 * seconds)) "speed-$name" $PYTHON benchmarks/modern/gpu.py speed "$work/gpu/speed-$name.csv" \
    --device $device --only "$name" --seconds $seconds
  gather
done

while [ "${#pids[@]}" -gt 0 ] && [ "$(left)" -gt 10 ] && [ -n "$(jobs -rp)" ]; do
  sleep 2
  gather
done
log "stopping"
for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
gather
trap - EXIT # it would gather again, out of a folder that is gone
rm -rf "$work"
