#!/bin/sh
# Cherokee and English, one direction, trained for long: train, translate the test set, score it.
# From the project's root: sh recipes/chren/run.sh DATA [chr-en|en-chr] [OUT] [--option-of-nmt-train ...]
# DATA holds train, dev and test with the suffixes .chr and .en, plain or gzip (see README.md here).
set -eu
nmt=${NMT:-.venv/bin/nmt}
data=${1:?"say where train.chr, train.en, dev.chr ... are: sh recipes/chren/run.sh DATA"}
shift
direction=${1:-chr-en}
[ $# -eq 0 ] || shift
out=${1:-runs/$direction}
[ $# -eq 0 ] || shift
src=${direction%-*} tgt=${direction#*-}
case $direction in  # what dev preferred
    chr-en) penalty=0.6 ;;
    en-chr) penalty=1.0 ;;
    *) echo "no such direction: $direction; chr-en and en-chr are" >&2; exit 2 ;;
esac

find() {  # plain or gzip
    if [ -e "$data/$1" ]; then echo "$data/$1"; else echo "$data/$1.gz"; fi
}

"$nmt" train recipes/chren/long.yaml -o "$out" --set "search.length_penalty=$penalty" \
    --src "$(find "train.$src")" --tgt "$(find "train.$tgt")" \
    --dev-src "$(find "dev.$src")" --dev-tgt "$(find "dev.$tgt")" "$@"
"$nmt" translate "$out" "$(find "test.$src")" -o "$out/test.$tgt" --force
"$nmt" evaluate --hyp "$out/test.$tgt" --ref "$(find "test.$tgt")"
