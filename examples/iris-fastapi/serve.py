from typing import List

import joblib
from fastapi import FastAPI

app = FastAPI(title="Iris")
model = joblib.load("models/model.joblib")


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(features: List[float]):
    prediction = model.predict([features])
    return {"prediction": prediction.tolist()}
