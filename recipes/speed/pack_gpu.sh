#!/bin/sh
# Makes all that gpu.sh needs where nothing can be fetched, as one folder beside it that git ignores:
#   sh recipes/speed/pack_gpu.sh TEXT [PACK]
# TEXT holds Multi30k (train, val and test_2016_flickr, .en and .de, plain or gzip; `nmt fetch multi30k` gets it). Wheels are
# for Python 3.12 on x86-64; PyTorch, numpy, safetensors and sentencepiece are taken to be there.
set -eu
text=${1:?usage: sh recipes/speed/pack_gpu.sh TEXT [PACK]}
pack=${2:-recipes/speed/pack}
nmt=${NMT:-.venv/bin/nmt}
most=60 # MiB, with the tree

rm -rf "$pack"
mkdir -p "$pack/wheels" "$pack/text"
for side in en de; do
    cp "$text/test_2016_flickr.$side" "$pack/text/test.$side"
    [ -f "$text/train.$side" ] && ending= || ending=.gz
    eval "train_$side=\$text/train.$side$ending"
done
"$nmt" prepare recipes/multi30k/transformer.yaml -o "$pack/prepared" --src "$train_en" --tgt "$train_de" \
    --dev-src "$text/val.en" --dev-tgt "$text/val.de"

set -- # the libraries, at the versions of constraints.txt
for name in annotated-doc annotated-types click colorama execnet iniconfig lxml markdown-it-py mdurl packaging pluggy portalocker \
    pydantic pydantic_core Pygments pytest pytest-xdist regex rich ruamel.yaml sacrebleu shellingham tabulate typer \
    typing-inspection typing_extensions; do
    set -- "$@" "$(grep -i "^$name==" constraints.txt)"
done
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d "$pack/wheels" "$@"
git rev-parse HEAD >"$pack/commit"

size=$(($(du -sk "$pack" | cut -f1) + $(git ls-files -z | xargs -0 du -k | awk '{ sum += $1 } END { print sum }')))
echo "$pack: $(du -sh "$pack" | cut -f1), with the tree $((size / 1024)) MiB"
[ "$size" -le $((most * 1024)) ] || { echo "more than $most MiB: it will not travel" >&2; exit 1; }
