"""What runs inside the sandbox: it loads the model, converts it, and compares the answers of both.

Imports the runtime, the user's own libraries and the converters; of the builder nothing but these files is there.
"""
