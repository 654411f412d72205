# `relkt serve` on a CPU. docs/docker.md explains how to build and run it.
ARG PYTHON=3.12

FROM rust:1.95-slim-bookworm AS wheel
# The base image's Debian release fixes the version.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/maturin && /opt/maturin/bin/pip install --no-cache-dir 'maturin>=1.9,<2'
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    /opt/maturin/bin/maturin build --release --locked --out /wheels

# The dependencies have a layer of their own, which stays cached while only relkt changes.
FROM python:${PYTHON}-slim-bookworm AS packages
# A package index with CPU builds of torch. The default build includes CUDA, which is most of its size.
ARG TORCH_INDEX=
RUN python3 -m venv /opt/relkt
ENV PATH=/opt/relkt/bin:$PATH
# pyproject.toml bounds the versions.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} 'torch>=2.6'
COPY pyproject.toml /tmp/
COPY docker/requirements.py /tmp/
RUN python /tmp/requirements.py /tmp/pyproject.toml app > /tmp/requirements.txt \
 && pip install --no-cache-dir -r /tmp/requirements.txt

FROM python:${PYTHON}-slim-bookworm
COPY --from=packages /opt/relkt /opt/relkt
ENV PATH=/opt/relkt/bin:$PATH \
    PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl \
 && pip check \
 && useradd --create-home --uid 10001 relkt \
 && install --directory --owner=relkt --group=relkt /home/relkt/.cache
USER 10001
WORKDIR /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/api/health', timeout=4)"]
ENTRYPOINT ["relkt", "serve", "--host", "0.0.0.0", "--port", "7860"]
CMD ["index.relkt"]
