#!/bin/sh
# Questions to queries, with a pointer and without: train, translate the test set, score.
# From the project's root: sh recipes/copy/run.sh DATA [copy|vocab] [OUT] [--option-of-nmt-train ...]
# DATA holds {train,dev,test}.{src,tgt} (see README.md here).
set -eu
nmt=${NMT:-.venv/bin/nmt}
data=${1:?"say where train.src, train.tgt, dev.src ... are: sh recipes/copy/run.sh DATA"}
shift
head=${1:-copy}
[ $# -eq 0 ] || shift
out=${1:-runs/copysql-$head}
[ $# -eq 0 ] || shift

[ "$head" = copy ] || set -- --set "model.head={kind: $head}" "$@"
"$nmt" train recipes/copy/rnn.yaml -o "$out" \
    --src "$data/train.src" --tgt "$data/train.tgt" --dev-src "$data/dev.src" --dev-tgt "$data/dev.tgt" "$@"
"$nmt" translate "$out" "$data/test.src" -o "$out/test.tgt" --force
"$nmt" evaluate --hyp "$out/test.tgt" --ref "$data/test.tgt" --src "$data/test.src" --copy --train "$data/train.tgt" \
    --metric exact --metric bleu
