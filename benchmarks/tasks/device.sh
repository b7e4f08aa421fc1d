#!/bin/bash
# Runs of these tasks that want a machine with a GPU: beside each other, within SECONDS_ALL seconds, in the repository's root.
#
#   OUT=/tmp/out bash benchmarks/tasks/device.sh "pendulum-pictures 0" "pendulum-pictures 1" "breakout-dqn 0" source "offline --seed 0"
#
# Each is a run of run.py or, by the words of its own, of ../data/run.py; one thread and CUDA graphs for each. What there
# is of all run folders when the time is over lies in $OUT: unpacked, the runs go on elsewhere with their replays, and can be
# used without.
set -u
: "${OUT:?a folder for the results}" "${SECONDS_ALL:=300}" "${PYTHON:=python3}" "${DEVICE:=cuda}" "${ENGINE:=cudagraph}"
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MUJOCO_GL=disable
mkdir -p "$OUT" runs
for words in "$@"; do
  read -r name rest <<<"$words"
  script=benchmarks/tasks/run.py
  case $name in source | prior | offline) script=benchmarks/data/run.py ;; esac
  # shellcheck disable=SC2086 - words are words
  timeout "$((SECONDS_ALL - 20))" $PYTHON $script $name $rest --device "$DEVICE" --engine "$ENGINE" >"runs/${words// /-}.txt" 2>&1 &
done
wait
tail -qn 2 runs/*.txt
find runs -name metrics.jsonl -o -name config.json | tar czf "$OUT/curves.tar.gz" --files-from=- # small, whatever the networks are
export XZ_OPT="-1 --threads=0"
tar cJf "$OUT/runs.tar.xz" --exclude=replay runs
find runs -name replay | tar cJf "$OUT/replays.tar.xz" --files-from=-
