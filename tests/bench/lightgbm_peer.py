"""LightGBM's P(label) of test rows by its own defaults, in a side environment: `lightgbm_peer.py ROWS OUT`.

`ROWS` is an .npz of `train` and `test` (n, columns), `categorical` (which columns are codes) and each label by name;
`OUT` becomes one of the scores by the same names.
"""

import sys

import lightgbm
import numpy as np

PARAMETERS = {"objective": "binary", "num_threads": 1, "seed": 0, "verbose": -1}


def main(rows: str, out: str) -> None:
    """A hundred trees a label: what `lightgbm.train` does when it is told nothing."""
    given = np.load(rows)
    scores = {}
    for name in set(given.files) - {"train", "test", "categorical"}:
        data = lightgbm.Dataset(given["train"], given[name], categorical_feature=given["categorical"].tolist())
        scores[name] = lightgbm.train(PARAMETERS, data).predict(given["test"])
    np.savez(out, **scores)


if __name__ == "__main__":
    main(*sys.argv[1:])
