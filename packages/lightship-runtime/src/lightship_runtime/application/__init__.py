"""The other way to serve: the user's own ASGI or WSGI application, unchanged, with uvicorn.

May import `config`, `errors`, `listener`, `log`, `threads`.
"""
