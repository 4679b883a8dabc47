"""The processes with the model: one loads it, and the workers that predict are its forks where the engine allows.

A worker reads calls from its socket, predicts them together and writes the answers: nothing here knows of HTTP but
the status that an error should have. May import `frames`, `payload`, `generation`, `engines`, `config`, `golden`,
`log`, `errors`.
"""
