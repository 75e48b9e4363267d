#!/bin/sh
# Multi30k English -> German: fetch, train, translate the test set, score it, draw three sentences.
# From the project's root: sh recipes/multi30k/run.sh [rnn|transformer] [OUT] [--option-of-nmt-train ...]
set -eu
nmt=${NMT:-.venv/bin/nmt}
model=${1:-rnn}
[ $# -eq 0 ] || shift
out=${1:-runs/multi30k-$model}
[ $# -eq 0 ] || shift

corpus=$("$nmt" fetch multi30k)
"$nmt" train "recipes/multi30k/$model.yaml" -o "$out" \
    --src "$corpus/train.en" --tgt "$corpus/train.de" --dev-src "$corpus/val.en" --dev-tgt "$corpus/val.de" "$@"
"$nmt" translate "$out" "$corpus/test_2016_flickr.en" -o "$out/test.de" --force
"$nmt" evaluate --hyp "$out/test.de" --ref "$corpus/test_2016_flickr.de"
"$nmt" plot "$out" "$corpus/test_2016_flickr.en" --lines 1,3,10 -o "$out/plots" --force
