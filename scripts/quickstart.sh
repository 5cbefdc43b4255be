#!/usr/bin/env bash
# From nothing to a served model: makes .venv, fine-tunes all-MiniLM-L6-v2 on Banking77, exports it,
# and asks the SavedModel three questions in a process without kbert and Keras.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment

export KERAS_BACKEND=${KERAS_BACKEND:-tensorflow}
data=kbert/datasets/banking77
# So short a training learns more without dropout.
.venv/bin/kbert finetune text-classification --train $data/train.csv --test $data/test.csv \
    --text text --label category --checkpoint "$checkpoint" --output runs/banking77 --overwrite \
    --epochs 4 --dropout 0
served=$(.venv/bin/kbert export runs/banking77 saved_models/banking77)
echo "Exported: $served"
.venv/bin/python scripts/ask_saved_model.py "$served" \
    "my card has not arrived" "how do I change my PIN?" "I was charged twice for one payment"
