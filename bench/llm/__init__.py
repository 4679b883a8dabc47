"""`make bench-llm`: language models, our server beside the engine by itself and the servers that people write.

It uses the environments, the servers and the look at the machine of `bench.serve`, and has its own peers.
"""
