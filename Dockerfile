# The server, without torch: docker build -t ganserve . && docker run -p 50051:50051 -v ./models:/models:ro ganserve
# With the CUDA libraries for onnxruntime: docker build --build-arg EXTRAS=serve,cuda ...

FROM python:3.12-slim AS build
ARG EXTRAS=serve
ENV UV_LINK_MODE=copy
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

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home ganserve
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
USER ganserve
EXPOSE 50051 9095
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "server", "--models", "/models"]
CMD ["--address", "0.0.0.0:50051", "--metrics-address", "0.0.0.0:9095"]
