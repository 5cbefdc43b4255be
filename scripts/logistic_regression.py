"""Feature extraction: the encoder stays as it is, a classical classifier learns on its vectors.

    python scripts/logistic_regression.py CHECKPOINT                     on Banking77
    python scripts/logistic_regression.py CHECKPOINT --train train.csv --test test.csv --label label

For each pooling, the accuracy of scikit-learn's logistic regression (lectures, "Fine-tuning and
feature extraction"). The vectors are those of `kbert features`.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import kbert
from kbert.features import features

BANKING77 = Path(kbert.__file__).parent / "datasets" / "banking77"


def vectors(loaded, records, options, pooling):
    """The vectors of records' texts, float32 (N, D), and their labels."""
    texts = [record[options.text] for record in records]
    found = features(loaded, texts, options.layer, pooling, options.max_length)
    return np.stack(list(found)), [str(record[options.label]) for record in records]


def accuracy(train, test) -> float:
    """Learn on (vectors, labels), measure on others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # The columns have deviations that differ: scaled, the penalty is the same for each.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    classifier.fit(*train)
    return classifier.score(*test)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--train", default=BANKING77 / "train.csv")
    parser.add_argument("--test", default=BANKING77 / "test.csv")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--no-quoting", dest="quoting", action="store_false")
    parser.add_argument("--layer", type=int, default=-1)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--pooling", nargs="+", default=["cls", "mean"])
    options = parser.parse_args(arguments)
    columns = (options.text, options.label)
    sets = [
        kbert.read_records(file, columns, quoting=options.quoting)
        for file in (options.train, options.test)
    ]
    loaded = kbert.load(options.checkpoint, dtype="float32")
    for pooling in options.pooling:
        began = time.perf_counter()
        train, test = (vectors(loaded, records, options, pooling) for records in sets)
        extracted = time.perf_counter()
        found = accuracy(train, test)
        learned = time.perf_counter()
        print(
            f"{pooling}: accuracy {found:.2%} on {len(test[1]):,} texts; vectors "
            f"{extracted - began:.0f} s, logistic regression {learned - extracted:.0f} s"
        )


if __name__ == "__main__":
    main()
