#!/bin/sh
# Speed of base and big on a GPU, a JSON object per line: sh recipes/speed/gpu.sh [FILE] [--option-of-nmt-bench ...]
set -eu
nmt=${NMT:-nmt}
out=${1:-gpu.jsonl}
[ $# -eq 0 ] || shift
: >"$out"
for size in base big; do
    config=recipes/speed/$size.yaml
    for precision in bfloat16 tf32 float32; do
        for compile in false true; do
            "$nmt" bench train "$config" --vocabulary 32000 --length 30 --steps 20 --json \
                --set train.precision=$precision --set train.compile=$compile "$@" >>"$out"
        done
        [ $precision = tf32 ] ||  # which search does not have
            "$nmt" bench decode "$config" --vocabulary 32000 --length 30 --steps 32 --sentences 256 --json \
                --set search.precision=$precision "$@" >>"$out"
    done
done
cat "$out"
