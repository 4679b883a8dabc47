"""llama.cpp's own OpenAI server, as xllamacpp has it inside. Arguments: the model, port, threads, slots, context."""

import signal
import sys

import xllamacpp

path, port, threads, slots, context = sys.argv[1:]
told = xllamacpp.CommonParams()
told.model.path = path
told.port = int(port)
told.n_parallel = int(slots)
told.n_ctx = int(slots) * int(context)
for cpu in (told.cpuparams, told.cpuparams_batch):
    cpu.n_threads = int(threads)
told.fit_params = False  # or it would choose another context, by the memory that is free now
told.verbosity = 0
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before there are threads, which inherit it
server = xllamacpp.Server(told)
print(server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM})
