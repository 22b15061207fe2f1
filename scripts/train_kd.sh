#!/usr/bin/env bash
# Distil the student from a teacher, without labels: bash scripts/train_kd.sh [RECIPE] [options of `kdscfnet train`]
# RECIPE is kd-r50 unless named.
# --demo needs no data. Sets up what is missing first (scripts/setup.sh). Paths are taken from where you are.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
recipe=kd-r50
case ${1:--} in -*) ;; *) recipe=$1 && shift ;; esac
kdscfnet_setup
export KDSCFNET_SCRIPT=$0 # for the line that says how to resume
exec "$PYTHON" -m kdscfnet train "$recipe" "$@"
