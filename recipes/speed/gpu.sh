#!/bin/sh
# Proves the GPU: tests, speed, a training to its end, in nine minutes; see "On a GPU" in recipes/speed/README.md.
#   sh recipes/speed/gpu.sh [OUT]           on a GPU, with what pack_gpu.sh has made
#   sh recipes/speed/gpu.sh --dry [OUT]     all of it on a CPU with tiny sizes, in two minutes
# PACK names another folder than recipes/speed/pack, PYTHON another Python than python3. Nothing is fetched.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
pack=${PACK:-recipes/speed/pack}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
if [ -d "$pack/wheels" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$scratch/site" "$pack"/wheels/*.whl
fi
PYTHONPATH="$PWD:$scratch/site" "$python" recipes/speed/gpu.py --pack "$pack" --scratch "$scratch" "$@"
