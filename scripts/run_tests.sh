#!/usr/bin/env bash
# The tests: bash scripts/run_tests.sh [options of pytest]. Sets up what is missing first (scripts/setup.sh).
# With CI=true a skipped test is a failure: CI has everything that the tests ask for.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
kdscfnet_setup test dev
cd "$KDSCFNET_ROOT"
if [ -n "${CI:-}" ]; then export KDSCFNET_NO_SKIPS=1; fi
# three workers on two cores: tests of several processes, browsers and downloads wait for much of their time
exec "$PYTHON" -m pytest -n "${KDSCFNET_TEST_WORKERS:-3}" --dist worksteal "$@"
