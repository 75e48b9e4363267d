"""Translates the first N lines, each in exactly 16 tokens and an end, so that untrained models work as hard as any.

python recipes/speed/decode.py RUN SRC -n 2000 --precision bfloat16 > out
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import torch

from nmt.bench import Endless
from nmt.config import SearchConfig
from nmt.data.batch import collate
from nmt.search.beam import beam_search
from nmt.search.hypothesis import Hypothesis
from nmt.text.lines import read_lines
from nmt.translate import Translator

STEPS = 17  # 16 tokens and EOS


class Forced(Translator):
    """The translator of `nmt translate`, but for the length of what it writes."""

    def hypotheses(self, src: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        batch = collate(src).to(self.device)
        with torch.inference_mode():
            predictor = Endless(self.model.predictor(batch), STEPS)
            return beam_search(predictor, beam=self.search.beam, limits=torch.full((len(src),), STEPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("src", type=Path)
    parser.add_argument("-n", type=int, default=2000, help="lines; the file is repeated if it has fewer")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    search = SearchConfig(beam=5, precision=arguments.precision)
    translator = Forced.load(arguments.run, device="cpu", search=search)
    for translation in translator.translate(islice(cycle(read_lines(arguments.src)), arguments.n)):
        print(translation.text)


if __name__ == "__main__":
    main()
