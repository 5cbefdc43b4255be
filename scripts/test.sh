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
failed=()
for backend in tensorflow jax torch; do
    echo "== $backend =="
    KERAS_BACKEND=$backend .venv/bin/python -m pytest "$@" || failed+=("$backend")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "Failed on: ${failed[*]}" >&2
    exit 1
fi
