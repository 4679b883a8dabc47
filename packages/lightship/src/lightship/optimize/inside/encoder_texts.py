"""Texts to ask both models: of many kinds and scripts, and of every length that the model reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from lightship.optimize.inside.encoder_tokens import Tokens
from lightship.optimize.inside.golden_request import golden_call
from lightship_runtime.engines import Signature
from lightship_runtime.golden import Golden
from lightship_runtime.payload import ServedModel, parse

_RANDOM = 100  # texts of random tokens
_WRITTEN = (
    "",
    "a",
    "?!",
    "This is a text.",
    "A wonderful film, I loved every minute of it.",
    "Dull, slow and a waste of time; the ending made no sense at all.",
    "the cat sat on the mat",
    "THE QUARTERLY REPORT IS DUE ON FRIDAY",
    "How do I reset the password of my account?",
    "Anna Schmidt lives in Rome and works for the United Nations.",
    "  white   space \t on both sides \n",
    "line one\nline two\r\n\r\nline four",
    "It's 20:15, 3.14159 is about pi, 1,000,000 is a million, and -40°C is -40°F.",
    "E-mail anna@example.org or see https://example.org/a/b?c=d&e=%20#top",
    "def add(a, b):\n    return a + b  # the sum",
    '{"key": [1, 2.5, null, true], "other": "value"}',
    "SELECT name FROM users WHERE id = 7; -- '); DROP TABLE users",
    "<p class='x'>Some <b>bold</b> text &amp; more</p>",
    "Größe, Übermut, Straße: ein Satz auf Deutsch.",
    "Où est la bibliothèque ? Ça dépend, naïve élève.",
    "¿Dónde está el niño? ¡Mañana llegará!",
    "Być albo nie być, oto jest pytanie; žluťoučký kůň.",
    "Привет, как дела? Всё хорошо.",
    "Καλημέρα κόσμε, τι κάνεις;",
    "שלום עולם, מה שלומך?",
    "مرحبا بالعالم، كيف حالك؟",
    "नमस्ते दुनिया, आप कैसे हैं?",
    "你好，世界。今天天气很好！",
    "こんにちは世界。今日はいい天気ですね。",
    "안녕하세요 세계, 오늘 날씨가 좋네요.",
    "สวัสดีชาวโลก",
    "😀 👩‍👩‍👧‍👦 🇩🇪 emoji and ﬁ ligatures, ½ and ²",
    "e\u0301 combining, \u200b zero width, \u00a0 no break, \ufeff mark, \u202e turned",
    "\x01\x02 control \x7f characters \u0085 and \ufffd",
    "[CLS] special [SEP] tokens [MASK] as [PAD] text <s> </s> <unk> <pad>",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "word " * 40,
    "x" * 300,
    "ha" * 200,
)
_PASSAGE = (
    "The committee met on Tuesday to discuss the new library. Several members asked how long the work would take, "
    "and whether the old building could stay open until it was done. Nobody knew for certain, but the architect "
    "thought that two years were enough. A vote was put off until the next meeting, which is in March. "
)


def texts_of(tokens: Tokens, signature: Signature, golden: Golden | None) -> list[str]:
    """The same texts each time: the golden request's, written ones, and random ones up to beyond the longest."""
    random = numpy.random.default_rng(0)
    found = [*_golden_texts(golden, signature), *_WRITTEN]
    longest = tokens.longest
    for length in (longest // 4, longest // 2, longest, 2 * longest):
        found.append((_PASSAGE * (1 + length // 50))[: length * 5])
    words = sorted(tokens.tokenizer.get_vocab().values())
    lengths = numpy.exp(random.uniform(0, numpy.log(longest), _RANDOM - 2)).astype(int)
    for length in (*lengths.tolist(), longest, longest + 10):
        chosen = random.choice(words, max(1, length)).tolist()
        found.append(tokens.tokenizer.decode(chosen, skip_special_tokens=True))
    return found


def _golden_texts(golden: Golden | None, signature: Signature) -> Iterator[Any]:
    if golden is not None:
        yield from parse(golden_call(golden), ServedModel("model", signature)).instances
