#!/usr/bin/env bash
# The paper's table: bash scripts/test.sh [options of `kdscfnet test`]. Without options: all weights under weights/, all
# test sets under data/. Sets up what is missing first (scripts/setup.sh). Paths are taken from where you are.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
kdscfnet_setup
exec "$PYTHON" -m kdscfnet test "$@"
