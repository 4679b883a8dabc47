"""The process that listens: HTTP in, batches out to the workers, answers back.

It imports no library of machine learning and no arrays, so that the port answers a fifth of a second after the
start and goes on answering whatever a prediction does. It never reads a prediction's body. May import `frames`,
`payload.call`, `payload.openai_errors`, `config`, `log`, `errors`, `listener`.
"""
