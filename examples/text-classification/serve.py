import torch
from fastapi import FastAPI
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

app = FastAPI(title="Reviews")
tokenizer = PreTrainedTokenizerFast.from_pretrained("model")
model = AutoModelForSequenceClassification.from_pretrained("model").eval()


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(texts: list[str]):
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**tokens).logits.softmax(dim=-1)
    best = probabilities.argmax(dim=-1).tolist()
    return {"labels": [model.config.id2label[label] for label in best]}
