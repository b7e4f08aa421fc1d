#!/bin/bash
# One run of a suite for each element of a Slurm job array; what is stopped or lost goes on, bit for bit:
#
#   softac bench figure --run-dir runs/figure --plan > figure.txt
#   sbatch --array=1-$(wc -l < figure.txt) examples/slurm_array.sh figure.txt
#
#SBATCH --job-name=softac
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120

folder=$(sed -n "${SLURM_ARRAY_TASK_ID:?start this with sbatch --array}p" "${1:?name the file with the folders}")
if [ -z "$folder" ]; then
  echo "$1 has no line $SLURM_ARRAY_TASK_ID" >&2
  exit 2
fi

# In the background, so that the shell, which alone gets the signal, can hand it on.
softac resume "$folder" &
run=$!
trap 'kill -TERM "$run"' TERM
while true; do
  wait "$run"
  code=$?
  kill -0 "$run" 2> /dev/null || break # a signal has ended the waiting, not the run
done

if [ "$code" = 143 ]; then # stopped and saved: the time was over, or somebody else needs the node
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
