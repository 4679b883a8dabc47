"""Train the example model: `python train.py [--if-missing]` writes model.joblib beside this file.

Deterministic and offline: the iris measurements come with scikit-learn.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

MODEL = Path(__file__).with_name("model.joblib")


def main() -> None:
    if "--if-missing" in sys.argv[1:] and MODEL.exists():
        return
    iris = load_iris()
    species = iris.target_names[iris.target]  # the names themselves, so that answers can be read
    model = LogisticRegression(max_iter=1000, random_state=0).fit(iris.data, species)
    joblib.dump(model, MODEL)
    print(f"{MODEL.name}: accuracy on the training data {model.score(iris.data, species):.3f}")


if __name__ == "__main__":
    main()
