#!/usr/bin/env bash
# Train with labels: bash scripts/train_fs.sh [RECIPE] [options of `kdscfnet train`]
# RECIPE is fs-m3 unless named.
# --demo needs no data. Sets up what is missing first (scripts/setup.sh). Paths are taken from where you are.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
recipe=fs-m3
case ${1:--} in -*) ;; *) recipe=$1 && shift ;; esac
kdscfnet_setup
export KDSCFNET_SCRIPT=$0 # for the line that says how to resume
exec "$PYTHON" -m kdscfnet train "$recipe" "$@"
