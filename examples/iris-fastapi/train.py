"""Train the example model: `python train.py [--if-missing]` writes models/model.joblib.

Deterministic and offline: the iris measurements come with scikit-learn.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

MODEL = Path(__file__).parent / "models" / "model.joblib"


def main() -> None:
    if "--if-missing" in sys.argv[1:] and MODEL.exists():
        return
    features, classes = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000, random_state=0).fit(features, classes)
    MODEL.parent.mkdir(exist_ok=True)
    joblib.dump(model, MODEL)
    print(f"models/{MODEL.name}: accuracy on the training data {model.score(features, classes):.3f}")


if __name__ == "__main__":
    main()
