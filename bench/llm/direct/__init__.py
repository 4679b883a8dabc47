"""Each engine called directly, as its documentation shows it: what one stream of our server is held against.

These are programs, and import nothing of ours. They are run by the Python of the engine's environment, with the model
and the number of threads as arguments. Each line of input is a question in JSON, with `message` and `tokens`. Each
line of output is its answer: seconds from the message as text to the first token as text, and to the last one; how
many tokens; the text.
"""
