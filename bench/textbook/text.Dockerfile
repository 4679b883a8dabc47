# The textbook multi-stage Dockerfile for a PyTorch model behind FastAPI, at its best: slim base, torch for CPUs only,
# pip's downloads kept between builds in a cache mount, dependencies before code, no compilers, non-root.
ARG BASE=python-slim:standin
FROM ${BASE} AS builder
ARG PIP_FIND_LINKS
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip pip install --prefix=/install -r requirements.txt

FROM ${BASE}
COPY --from=builder /install /usr/local
RUN useradd --create-home app
WORKDIR /app
COPY . .
USER app
EXPOSE 8080
CMD ["uvicorn", "serve:app", "--host", "0.0.0.0", "--port", "8080"]
