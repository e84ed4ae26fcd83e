# The image of every service that runs our code: Prefect's server, its services, the workers.
#
# Packages come from uv.lock and nothing else. On x86-64 those are CUDA builds, which also run
# without a GPU: one image serves both workers.

ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# Keep the version in step with the one that writes uv.lock.
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/zutis \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# Dependencies first: a change of our own code does not install them again.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --extra deploy --extra s3 --no-install-project
COPY . .
RUN uv sync --locked --no-dev --extra deploy --extra s3 --no-editable

FROM ${PYTHON}
RUN groupadd --gid 10001 zutis \
    && useradd --uid 10001 --gid zutis --create-home zutis \
    && install --directory --owner zutis --group zutis \
        /data/store /data/weights /data/results /data/cache
# Root's, and so beyond the reach of whatever runs in the container.
COPY --from=build /opt/zutis /opt/zutis
COPY prefect.yaml /app/
COPY deploy /app/deploy
ENV PATH=/opt/zutis/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
VOLUME ["/data/store", "/data/weights", "/data/results", "/data/cache"]
CMD ["zutis", "--help"]
