"""Make the example's model: `python train.py [--if-missing]` writes the folder model/ beside this file.

MiniLM, which examples/embeddings fetches, stays as it is; only a head is trained, to tell what a customer's message
is about. The state of the first token goes through the pooler's tanh, and a logistic regression looks at the result:
the two together are transformers' BertForSequenceClassification. Takes seconds; needs torch, transformers and
scikit-learn.
"""

import shutil
import sys
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer, BertForSequenceClassification

HERE = Path(__file__).parent
MODEL = HERE / "model"
ENCODER = HERE.parent / "embeddings" / "model"
MESSAGES = {
    "billing": """
        I was charged twice for the same order.
        Please send me an invoice for last month.
        My card was declined although there is money on it.
        When will I get my refund?
        The price on the bill is higher than on the website.
        Can I pay by bank transfer instead?
        You have taken money for a subscription that I cancelled.
        I need a receipt for my tax return.
    """,
    "delivery": """
        My parcel has not arrived yet.
        The courier left the box at the wrong house.
        Can you ship to Norway?
        Tracking says delivered but there is nothing here.
        The package came open and something is missing.
        I want to change the delivery address.
        How long does shipping take?
        Nobody rang the bell, and now it is back at the depot.
    """,
    "technical": """
        The app crashes when I open it.
        I cannot log in, it says my password is wrong.
        The page stays blank in my browser.
        After the update the device does not start any more.
        The screen flickers and then turns black.
        It does not connect to the wireless network.
        I get an error message when I save the file.
        The battery is empty after an hour.
    """,
    "praise": """
        Thank you, your team was wonderful.
        I love it, it is even better than I expected.
        Great quality, I will buy here again.
        The service was quick and very friendly.
        Best purchase that I have made this year.
        Everything was perfect, five stars.
        My daughter is so happy with her present.
        What a pleasant surprise, well done!
    """,
}


def main() -> None:
    if "--if-missing" in sys.argv and MODEL.is_dir():
        return
    if not ENCODER.is_dir():
        raise SystemExit(f"{ENCODER} is not there. Fetch it: python {ENCODER.parent / 'fetch.py'}")
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    labels = list(MESSAGES)
    texts = [(line.strip(), label) for label in labels for line in MESSAGES[label].strip().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(ENCODER, local_files_only=True)
    model = BertForSequenceClassification.from_pretrained(
        ENCODER,
        local_files_only=True,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    ).eval()
    tokens = tokenizer([text for text, _ in texts], padding=True, return_tensors="pt")
    pooler, head = model.bert.pooler.dense, model.classifier
    with torch.no_grad():
        pooler.weight.copy_(torch.eye(len(pooler.bias)))
        pooler.bias.zero_()
        pooled = model.bert(**tokens).pooler_output.numpy()
        fitted = LogisticRegression(max_iter=1000, C=10).fit(pooled, [labels.index(label) for _, label in texts])
        head.weight.copy_(torch.from_numpy(fitted.coef_))
        head.bias.copy_(torch.from_numpy(fitted.intercept_))
    shutil.rmtree(MODEL, ignore_errors=True)
    model.save_pretrained(MODEL)
    tokenizer.save_pretrained(MODEL)
    print(f"{MODEL} is there.")


if __name__ == "__main__":
    main()
