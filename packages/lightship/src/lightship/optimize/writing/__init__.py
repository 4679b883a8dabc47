"""The program that makes an ONNX graph of a language model. It runs in a sandbox alone, and imports nothing of the
builder's: only PyTorch, transformers, ONNX Runtime GenAI with its model builder, and the runtime, whose engine tries
the result.
"""
