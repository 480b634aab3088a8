# Targets: cpu (the last, so the default) and cuda. Both hold the serving set alone: no torch, no compiler, no pip.
# `make image` builds one of them; docs/deployment.md says how to run it.
ARG CPU_BASE=docker.io/library/debian:trixie-slim
# CUDA 13 and cuDNN 9, what ONNX Runtime is built with.
ARG CUDA_BASE=docker.io/nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04

# A base needs apt and a python3 package of 3.11 or later.
FROM ${CPU_BASE} AS cpu-python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/* /var/log/*.log /var/log/apt

FROM ${CUDA_BASE} AS cuda-python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/* /var/log/*.log /var/log/apt

FROM cpu-python AS cpu-build
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates python3-venv
WORKDIR /build
COPY . .
# Where packages come from, for those who have a mirror.
ARG PIP_INDEX_URL
RUN deploy/image/install onnxruntime

FROM cuda-python AS cuda-build
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates python3-venv
WORKDIR /build
COPY . .
ARG PIP_INDEX_URL
RUN deploy/image/install onnxruntime-gpu

# The server needs no writable place: its root file system may be read-only, its user is nobody's. tini is the first
# process, so that a signal counts from the first moment on, before Python has any handler.
FROM cuda-python AS cuda
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Dragoman" \
      org.opencontainers.image.description="gRPC server for encoder-decoder attention models, with CUDA" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=cuda-build /opt/dragoman /opt/dragoman
ENV PATH=/opt/dragoman/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 \
    DRAGOMAN_HOST=0.0.0.0 DRAGOMAN_MODE=production
USER 10001:10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["dragoman", "health"]
ENTRYPOINT ["tini", "--", "dragoman"]
CMD ["serve"]

FROM cpu-python AS cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Dragoman" \
      org.opencontainers.image.description="gRPC server for encoder-decoder attention models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=cpu-build /opt/dragoman /opt/dragoman
ENV PATH=/opt/dragoman/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 \
    DRAGOMAN_HOST=0.0.0.0 DRAGOMAN_MODE=production
USER 10001:10001
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["dragoman", "health"]
ENTRYPOINT ["tini", "--", "dragoman"]
CMD ["serve"]
