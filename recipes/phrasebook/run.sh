#!/bin/sh
# The demo: a generated English-French phrasebook, a recurrent model with attention, pictures of what it looks at.
# From the project's root: `make demo`, or: sh recipes/phrasebook/run.sh [OUT] [--option-of-nmt-train ...]
set -eu
nmt=${NMT:-nmt}
out=${1:-runs/phrasebook}
[ $# -eq 0 ] || shift
text=$out-text
results=$out-results
mkdir -p "$results"

say() { printf '\n== %s\n' "$*"; }

say "The text: 20,000 generated pairs, with gold word alignment, in $text"
"$nmt" fetch phrasebook -o "$text" --overwrite >/dev/null

say "Training; the bar says how far, and dev is translated now and then"
"$nmt" train recipes/phrasebook/rnn.yaml -o "$out" --force \
    --src "$text/train.en" --tgt "$text/train.fr" --dev-src "$text/dev.en" --dev-tgt "$text/dev.fr" "$@"

for split in test names long; do
    "$nmt" translate "$out" "$text/$split.en" -o "$results/$split.fr" --force
done

say "Test: 1,000 sentences of the same grammar, none of them seen in training"
"$nmt" evaluate --hyp "$results/test.fr" --ref "$text/test.fr" --metric bleu --metric chrf

say "Names: 300 sentences with a name never seen in training"
"$nmt" evaluate --hyp "$results/names.fr" --ref "$text/names.fr" --metric bleu --metric chrf
for line in 1 2; do
    for part in "source $text/names.en" "output $results/names.fr" "reference $text/names.fr"; do
        printf '  %-10s %s\n' "${part%% *}" "$(sed -n "${line}p" "${part#* }")"
    done
done
"$nmt" evaluate --hyp "$results/names.fr" --ref "$text/names.fr" --src "$text/names.en" --copy --train "$text/train.fr" \
    --metric bleu | sed -n '/^copied/,$p'
echo "unseen is the row to look at: a model of words reads a name it has never seen as <unk>, whatever it is, and its"
echo "vocabulary has no such word; but its attention is on the name, and from there it copies. Without copying a name it"
echo "knows takes the place: sh recipes/phrasebook/run.sh runs/without --set 'model.head={kind: vocab}'"

say "Long: 300 sentences of 25 to 45 words; in training none had more than 20"
"$nmt" evaluate --hyp "$results/long.fr" --ref "$text/long.fr" --metric bleu --metric chrf

say "Alignment: the most attended source word of each target word, against the gold links of the test set"
"$nmt" align "$out" "$text/test.en" "$text/test.fr" -o "$results/test.talp" --force
"$nmt" aer "$results/test.talp" "$text/test.talp"

say "Pictures: which source word each target word came from (gold links outlined)"
"$nmt" plot "$out" "$text/showcase.en" "$text/showcase.fr" --gold "$text/showcase.talp" -o "$results/plots" --force |
    paste - "$text/showcase.en"

say "Next"
cat <<EOF
  $out/report.html    open it in a browser: how training went, and how the attention became sharp
  echo "we will sell the red car" | $nmt translate $out
  $nmt plot $out --text "she gave me the big potato" -o $results/mine
  sh recipes/phrasebook/run.sh runs/dot --set 'model.decoder.attention={kind: dot}'    another scorer
  $nmt train --src YOUR.en --tgt YOUR.de -o runs/mine                                  your own text
EOF
