"""Ray Serve with dynamic batching (https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html), a replica
for each core, and the high-throughput options of
https://docs.ray.io/en/master/kuberay/user-guides/serve-high-throughput.html, which the benchmark sets."""

import os
import time

import joblib
import ray
from ray import serve
from starlette.requests import Request

CORES = len(os.sched_getaffinity(0))


@serve.deployment(num_replicas=CORES, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Model:
    def __init__(self):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows):
        return self.model.predict(rows).tolist()

    async def __call__(self, request: Request):
        return {"prediction": await self.predict((await request.json())["features"])}


if __name__ == "__main__":
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Model.bind())
    while True:
        time.sleep(60)
