#!/usr/bin/env bash
# Regenerate livecfg/hub/_pb from the proto files, with the oldest generator whose code we promise to run: generated code never
# runs on an older protobuf than its generator's. `--check` only compares.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.venv/proto-tools
if [ ! -x $tools/bin/python ]; then
    python3 -m venv $tools
    $tools/bin/python -m pip install -q --disable-pip-version-check grpcio-tools==1.75.1 mypy-protobuf==3.6.0 setuptools==80.9.0
fi
out=livecfg/hub/_pb
[ "${1:-}" != --check ] || out=$(mktemp -d)
PATH="$PWD/$tools/bin:$PATH" $tools/bin/python -m grpc_tools.protoc -Iproto/livecfg/hub/v1 --python_out="$out" --mypy_out="$out" hub.proto
if [ "${1:-}" = --check ]; then
    diff -u livecfg/hub/_pb/hub_pb2.py "$out/hub_pb2.py" && diff -u livecfg/hub/_pb/hub_pb2.pyi "$out/hub_pb2.pyi"
    rm -r "$out"
fi
