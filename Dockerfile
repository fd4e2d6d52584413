# The server, without torch: docker build -t ganserve . && docker run -p 50051:50051 -v ./models:/models:ro ganserve
# With the CUDA libraries for onnxruntime: docker build --build-arg EXTRAS=serve,cuda ...
# With a base that cannot change: docker build --build-arg PYTHON_IMAGE=python:3.12.12-slim-bookworm@sha256:DIGEST ...
# Scrape metrics from outside: docker run ... ganserve --address 0.0.0.0:50051 --metrics-address 0.0.0.0:9095

ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG EXTRAS=serve
# The server runs on a read-only root, so it could not keep bytecode of its own.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /venv
WORKDIR /src
# Dependencies first: they change less often than the code, so Docker can reuse their layer.
COPY pyproject.toml requirements.lock README.md LICENSE ./
RUN VIRTUAL_ENV=/venv uv pip install --no-cache --constraint requirements.lock --requirement pyproject.toml \
    $(printf -- '--extra %s ' $(echo "$EXTRAS" | tr , ' '))
COPY client ./client
COPY exporter ./exporter
COPY ganserve ./ganserve
COPY server ./server
COPY trainer ./trainer
RUN VIRTUAL_ENV=/venv uv pip install --no-cache --no-deps .

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --no-create-home ganserve
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
USER ganserve
EXPOSE 50051
STOPSIGNAL SIGTERM
# With TLS or another port: docker run --health-cmd "ganclient health --address ... --tls-roots ..." ...
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m CMD ["ganclient", "health", "--address", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m", "server", "--models", "/models"]
CMD ["--address", "0.0.0.0:50051"]
