#!/bin/sh
# Questions to queries by five models that differ: train them, translate the test set by all together, score.
# From the project's root: sh recipes/copy/five.sh DATA [OUT] [--option-of-nmt-train ...]
# A model that is there already is not trained again; one that was interrupted goes on.
set -eu
nmt=${NMT:-.venv/bin/nmt}
data=${1:?"say where train.src, train.tgt, dev.src ... are: sh recipes/copy/five.sh DATA"}
shift
out=${1:-runs/copysql-five}
[ $# -eq 0 ] || shift

train() {  # NAME SEED, and what differs from rnn.yaml
    run=$out/$1 seed=$2
    shift 2
    if [ -d "$run" ]; then
        "$nmt" train "$run" --resume
    else
        "$nmt" train recipes/copy/rnn.yaml -o "$run" --set "train.seed=$seed" "$@" \
            --src "$data/train.src" --tgt "$data/train.tgt" --dev-src "$data/dev.src" --dev-tgt "$data/dev.tgt"
    fi
}

one_layer="--set model.encoder.layers=1 --set model.decoder.attention.coverage=false --set model.coverage=0"
ngrams="--set model.embedding.ngrams=8192"
train 1 1 "$@"
train 2 1 $ngrams "$@"
train 3 3 $ngrams "$@"
train 4 5 $one_layer "$@"
train 5 6 $one_layer $ngrams "$@"

all="$out/1 --ensemble $out/2 --ensemble $out/3 --ensemble $out/4 --ensemble $out/5"
"$nmt" translate $all "$data/test.src" -o "$out/test.beam" --force --beam 10
"$nmt" translate $all "$data/test.src" -o "$out/test.samples" --force \
    --set search.sampling.count=64 --set search.mbr.utility=chrf
for how in beam samples; do
    echo "$how:"
    "$nmt" evaluate --hyp "$out/test.$how" --ref "$data/test.tgt" --src "$data/test.src" --copy \
        --train "$data/train.tgt" --metric exact --metric bleu
done
