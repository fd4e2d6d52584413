# docker build --tag ganserve .                                 the server, without torch
# docker build --target server-gpu --tag ganserve:cuda .        the same with the CUDA libraries for onnxruntime
# docker build --target trainer --tag ganserve-trainer .        the trainer and the exporter
# docker run --publish 50051:50051 --volume ./models:/models:ro ganserve
# HTTP as well: docker run ... ganserve --address 0.0.0.0:50051 --http-address 0.0.0.0:8080
# With other extras of pyproject.toml: --build-arg EXTRAS=serve,http,otel
# With a base that cannot change: --build-arg PYTHON_IMAGE=python:3.12.12-slim-bookworm@sha256:DIGEST

ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS uv
# Containers run on a read-only root, so they could not keep bytecode of their own.
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/venv
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /venv
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./

FROM uv AS wheel
COPY client ./client
COPY exporter ./exporter
COPY ganserve ./ganserve
COPY server ./server
COPY trainer ./trainer
RUN uv build --wheel --out-dir /wheel

# Dependencies first: they change less often than the code, so builds can reuse their layer.
FROM uv AS build-server
ARG EXTRAS=serve,http
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml \
    $(printf -- '--extra %s ' $(echo "$EXTRAS" | tr , ' '))
# Half of the size, of no use without the CUDA libraries.
RUN rm -f /venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so
COPY --from=wheel /wheel /wheel
RUN uv pip install --no-deps /wheel/*.whl

FROM uv AS build-server-gpu
ARG EXTRAS=serve,http,cuda
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml \
    $(printf -- '--extra %s ' $(echo "$EXTRAS" | tr , ' '))
COPY --from=wheel /wheel /wheel
RUN uv pip install --no-deps /wheel/*.whl

FROM uv AS build-trainer
ARG EXTRAS=export
RUN uv pip install --constraint requirements.lock --requirement pyproject.toml \
    $(printf -- '--extra %s ' $(echo "$EXTRAS" | tr , ' '))
COPY --from=wheel /wheel /wheel
RUN uv pip install --no-deps /wheel/*.whl

FROM ${PYTHON_IMAGE} AS user
# Python's images have no bytecode of the standard library.
RUN python -m compileall -q -x site-packages "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ganserve
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# In numbers, so that Kubernetes can see that it is not root.
USER 10001:10001

# --compile needs a C++ compiler, which it has not.
# docker run --gpus all --user "$(id -u):$(id -g)" --volume .:/work ganserve-trainer trainer --model dcgan --device cuda
FROM user AS trainer
COPY --from=build-trainer /venv /venv
# Data sets and classifiers that it makes are kept in the mounted folder, too.
ENV HOME=/work
WORKDIR /work
ENTRYPOINT ["python", "-m"]
CMD ["trainer", "--help"]

FROM user AS runtime
EXPOSE 50051
STOPSIGNAL SIGTERM
# With TLS or another port: docker run --health-cmd "ganclient health --address ... --tls-roots ..." ...
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m CMD ["ganclient", "health", "--address", "127.0.0.1:50051"]
ENTRYPOINT ["python", "-m", "server", "--models", "/models"]
CMD ["--address", "0.0.0.0:50051"]

FROM runtime AS server-gpu
COPY --from=build-server-gpu /venv /venv

# The last target is the default.
FROM runtime AS server
COPY --from=build-server /venv /venv
