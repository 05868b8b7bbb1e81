#!/bin/sh
# Resolves all packages for every Python from 3.11 and every platform, and writes requirements.lock with hashes.
set -eu
cd "$(dirname "$0")/../.."
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    for candidate in build/uv/bin/uv build/uv-target/bin/uv; do
        if [ -x "$candidate" ]; then uv=$candidate; fi
    done
fi
if [ -z "$uv" ]; then
    .venv/bin/python -m venv build/uv && build/uv/bin/python -m pip install --quiet uv
    uv=build/uv/bin/uv
fi
if [ -n "${PIP_CERT:-}" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE="$PIP_CERT"; fi
exec "$uv" pip compile --quiet --universal --python-version 3.11 --group dev pyproject.toml --generate-hashes \
    --no-emit-index-url -o requirements.lock --custom-compile-command "make lock"
