#!/usr/bin/env bash
# Makes a Cloud TPU slice and trains on all of its workers. Only `delete` gives
# it back: until then it is billed, also when the training has ended.
#
#   launch/tpu_vm.sh COMMAND [main's flags]
#
#   create   asks for the slice and waits until it is there
#   install  copies this repository to every worker and installs it there
#   train    starts `python -m deblur_jax.main --distributed` on every worker
#   logs     follows the first worker's log
#   stop     tells the training to save and stop
#   delete   gives the slice back
#   all      create, install, train, logs
#
# Settings come from the environment:
#   TPU_NAME     default deblur
#   TPU_ZONE     default us-west4-a
#   TPU_TYPE     default v5litepod-8; v5litepod-256 for a whole pod
#   TPU_VERSION  default v2-alpha-tpuv5-lite
#   TPU_SPOT     1 for a preemptible slice: cheaper, and training may be cut off
#   DRY_RUN      1 prints every command and runs none
#
# --workdir and the data's place must be seen by all workers, e.g. a mounted
# bucket or a Filestore share: DEBLUR_DATA and TFDS_DATA_DIR are passed on.
set -euo pipefail

NAME=${TPU_NAME:-deblur}
ZONE=${TPU_ZONE:-us-west4-a}
TYPE=${TPU_TYPE:-v5litepod-8}
VERSION=${TPU_VERSION:-v2-alpha-tpuv5-lite}
WAIT_SECONDS=30

run() {
  if [[ ${DRY_RUN:-} == 1 ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

tpu() {
  run gcloud compute tpus "$@" --zone="$ZONE"
}

on_workers() {  # WORKER COMMAND
  tpu tpu-vm ssh "$NAME" --worker="$1" --command="$2"
}

create() {
  tpu queued-resources create "$NAME" --node-id="$NAME" \
    --accelerator-type="$TYPE" --runtime-version="$VERSION" \
    ${TPU_SPOT:+--spot}
  [[ ${DRY_RUN:-} == 1 ]] && return
  local state=
  until [[ $state == ACTIVE ]]; do
    sleep "$WAIT_SECONDS"
    state=$(tpu queued-resources describe "$NAME" --format='value(state.state)')
    echo "$NAME: $state"
    if [[ $state == FAILED || $state == SUSPENDED ]]; then
      echo "$NAME will not come; see: gcloud compute tpus queued-resources" \
        "describe $NAME --zone=$ZONE" >&2
      exit 1
    fi
  done
}

install() {
  local archive
  archive=$(mktemp --suffix=.tar.gz)
  run git archive --format=tar.gz --output="$archive" HEAD
  tpu tpu-vm scp "$archive" "$NAME:deblur_jax.tar.gz" --worker=all
  on_workers all 'rm -rf deblur_jax && mkdir deblur_jax &&
    tar -xzf deblur_jax.tar.gz -C deblur_jax && cd deblur_jax &&
    python3 -m pip install --quiet --user uv &&
    python3 -m uv venv --quiet --python 3.12 .venv &&
    python3 -m uv pip install --quiet --python .venv -e ".[tpu,perceptual]"'
  rm -f "$archive"
}

train() {
  local flags=() variables=() name
  for name in DEBLUR_DATA TFDS_DATA_DIR; do
    [[ -n ${!name:-} ]] && variables+=("$name=$(printf '%q' "${!name}")")
  done
  (($# > 0)) && printf -v flags '%q ' "$@"
  # The same command goes on after an interruption.
  # In the background is this one command alone: a list of them would be a
  # shell that waits for it, and that ssh waits for.
  on_workers all "cd deblur_jax || exit; ${variables[*]:-} nohup \
.venv/bin/python -m deblur_jax.main --distributed ${flags[*]:-} \
>> train.log 2>&1 < /dev/null &"
}

logs() { on_workers 0 'tail -n 100 -f deblur_jax/train.log'; }

# The brackets keep the pattern from finding the shell that it stands in.
stop() { on_workers all 'pkill -TERM -f [d]eblur_jax.main'; }

delete() {
  tpu queued-resources delete "$NAME" --force --quiet
}

command=${1:-}
shift || true
case $command in
  create | install | logs | stop | delete) "$command" ;;
  train) train "$@" ;;
  all)
    create
    install
    train "$@"
    logs
    ;;
  *)
    echo "usage: $0 create|install|train|logs|stop|delete|all [main's flags]" >&2
    exit 2
    ;;
esac
