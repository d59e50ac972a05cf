#!/usr/bin/env bash
# Trains one model with several processes on this machine, one GPU each; on a
# machine without GPUs, JAX_NUM_CPU_DEVICES says how many devices each makes.
#
#   launch/local.sh PROCESSES --config=configs/cnn_photos.py [main's flags]
#
# One process alone drives all GPUs of a machine too: this is for trying out
# what many machines will do. After SIGTERM or Ctrl-C all of them save and stop.
set -uo pipefail

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 PROCESSES --config=FILE [...]" >&2
  exit 2
fi
processes=$1
shift
python=${PYTHON:-python3}
port=$("$python" -c 'import socket; s = socket.socket()
s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])') || exit 2

export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$processes
pids=()
# What a script starts in the background is deaf to Ctrl-C.
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM INT
for ((i = 0; i < processes; i++)); do
  JAX_PROCESS_ID=$i JAX_LOCAL_DEVICE_IDS=$i \
    "$python" -m deblur_jax.main --distributed "$@" &
  pids+=($!)
done

status=0
for pid in "${pids[@]}"; do
  # A signal interrupts `wait`; the process is still there to be waited for.
  while :; do
    wait "$pid"
    ended=$?
    kill -0 "$pid" 2>/dev/null || break
  done
  ((status == 0)) && status=$ended
done
exit "$status"
