"""Text that a model writes: what is asked for, the engines that write it, and the forms it is asked and answered in.

`request` and `engine` are what an engine is made of; `answering` turns a Call into an answer, whole or in parts,
with one file for each form: `completions` and `chat` are OpenAI's, `plain` is that of /generate. Embeddings are
vectors, which any engine may give: they are read and written in `payload`. `templates`, `bounds`, `handover` and
`detokenizing` are what the engines share, and `schema_grammar`, with `grammar` below it, is how a JSON schema is
kept to where an engine has no way of its own. `offering`, `calling` and `forcing` are the tools that a model calls.
May import `payload`, `engines.engine`, `errors`, `log`.
"""
