"""LitServe, batching on, one prediction worker and one API server for each core: the documentation says
to raise `max_batch_size` and `workers_per_device` (https://lightning.ai/docs/litserve/speed-up-serving-by-200x and
https://lightning.ai/docs/litserve/features/batching). A batch waits 1 ms at most, as short as does any good."""

import os

import joblib
import litserve


class Model(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request):
        return request["features"]

    def batch(self, inputs):
        return list(inputs)

    def predict(self, rows):
        return self.model.predict(rows).tolist()

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"prediction": output}


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    server = litserve.LitServer(
        Model(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=cores, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=cores,
        generate_client_file=False,
        log_level="warning",
    )
