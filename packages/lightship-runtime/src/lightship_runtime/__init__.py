"""What runs inside a Lightship image: it loads a model (or the user's application) and answers HTTP requests.

`python -m lightship_runtime` is the image's entrypoint. One JSON file, written by the builder, says what to serve
(`config`); the environment may override the port. The builder may import this package, never the reverse. Nothing
here imports a machine-learning library before a model asks for it, and everything runs on Python 3.10 or later.

    environment, config   what to serve, and how
    supervisor, serve     the first process, and the start in order
    front/                the process that listens: HTTP, gRPC, queue, limits, keys, metrics, pages
    host/                 the process that loads the model, and the workers that predict
    frames                what the two say to each other
    engines/              one small file per library that runs models
    payload/              bytes to instances, predictions to bytes; one file per format
    pages/                the API described, and a page to try the model
    application/          the other way to serve: the user's own ASGI or WSGI application
    golden                the golden request and answer, shared with the builder
    threads, memory       what the container may use
"""

__version__ = "0.1.0"
