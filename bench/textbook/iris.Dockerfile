# The textbook multi-stage Dockerfile for a scikit-learn model behind FastAPI: slim base, compilers only in the
# builder stage, dependencies before code, no pip cache, non-root. What Lightship is measured against.
ARG BASE=python-slim:standin
FROM ${BASE} AS builder
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN pip install --no-cache-dir --prefix=/install -r requirements.txt

FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=builder /install /usr/local
RUN useradd --create-home app
WORKDIR /app
COPY . .
USER app
EXPOSE 8080
CMD ["uvicorn", "serve:app", "--host", "0.0.0.0", "--port", "8080"]
