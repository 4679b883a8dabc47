"""What runs inside a Lightship image: it loads a model (or the user's application) and answers HTTP requests.

`python -m lightship_runtime` is the image's entrypoint. One JSON file, written by the builder, says what to serve
(`config`); the environment may override the port. The builder may import this package, never the reverse. Nothing
here imports a machine-learning library before a model asks for it, and everything runs on Python 3.10 or later.

    environment, config   what to serve, and where
    init                  the part of process 1: forwards signals, reaps orphans
    engines/              one small file per library that runs models
    payload, predictor    from a request's bytes to an answer's bytes
    api                   the HTTP interface around a predictor
    application           the other way to serve: the user's own ASGI or WSGI application
    server                listens, and stops without losing a request
    golden                the golden request and answer, shared with the builder
"""

__version__ = "0.1.0"
