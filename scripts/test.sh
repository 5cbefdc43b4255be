#!/usr/bin/env bash
# Makes .venv with all three backends and runs every test on TensorFlow, JAX and PyTorch.
# Arguments go to pytest: scripts/test.sh -k attention
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment test

.venv/bin/ruff check .
.venv/bin/ruff format --check .
export TF_CPP_MIN_LOG_LEVEL=3
# A backend is chosen once, at import: each gets a process of its own, all run, any failure fails.
# TensorFlow, which also tests the text side, takes as long as the other two: it runs beside them,
# and is printed when it is done.
log=$(mktemp)
trap 'rm -f "$log"; kill $(jobs -p) 2>/dev/null || true' EXIT
test_on() { KERAS_BACKEND=$1 .venv/bin/python -m pytest "${@:2}"; }
test_on tensorflow "$@" >"$log" 2>&1 &
tensorflow=$!
failed=()
for backend in jax torch; do
    echo "== $backend =="
    test_on $backend "$@" || failed+=("$backend")
done
echo "== tensorflow =="
wait $tensorflow || failed+=(tensorflow)
cat "$log"
if [ ${#failed[@]} -gt 0 ]; then
    echo "Failed on: ${failed[*]}" >&2
    exit 1
fi
