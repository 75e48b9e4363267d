"""The same weights in CTranslate2, so that two searches can be compared on one model.

    python recipes/speed/to_ctranslate2.py weights RUN OUT.npz         with nmt's Python
    python recipes/speed/to_ctranslate2.py build OUT.npz FOLDER        with a Python that has ctranslate2
    python recipes/speed/to_ctranslate2.py translate FOLDER IN OUT --precision int8 [--vmap FILE]

IN and OUT are text as pieces with spaces between (`pieces` writes them, `text` reads them):

    python recipes/speed/to_ctranslate2.py pieces RUN TEXT IN          with nmt's Python
    python recipes/speed/to_ctranslate2.py text RUN OUT TEXT

For transformers of pre-norm layers with sinusoidal positions, ReLU, biases and one embedding for all.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

POSITIONS = 2048


def weights(run: Path, output: Path) -> None:
    import torch

    from nmt.rundir import RunDir, load_model

    folder = RunDir(run)
    config, model = folder.config.model, load_model(folder)
    part = config.decoder
    if (part.kind, config.embedding.tie, config.head.kind) != ("transformer", "all", "vocab") or (
        part.norm,
        part.normalization,
        part.positions,
        part.activation,
    ) != ("pre", "layer", "sinusoidal", "relu"):
        sys.exit(f"{run}: not of the kind that this script knows")
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    places = model.decoder.place.positions.embed(torch.arange(POSITIONS)).numpy()
    vocabulary = folder.tokenizers()[0].pieces(range(len(folder.tokenizers()[0])))
    np.savez(
        output,
        **arrays,
        positions=places,
        vocabulary=np.array(vocabulary),
        shape=[config.encoder.layers, part.layers],
        heads=part.heads,
    )


def build(source: Path, folder: Path) -> None:
    from ctranslate2.specs import TransformerSpec, common_spec

    found = np.load(source)
    encoder, decoder = map(int, found["shape"])
    spec = TransformerSpec.from_config(
        (encoder, decoder), int(found["heads"]), pre_norm=True, activation=common_spec.Activation.RELU
    )

    def linear(to: object, name: str) -> None:
        to.weight, to.bias = found[f"{name}.weight"], found[f"{name}.bias"]

    def norm(to: object, name: str) -> None:
        to.gamma, to.beta = found[f"{name}.weight"], found[f"{name}.bias"]

    table = found["encoder.embedding.table.weight"]
    for side, name in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = table
        side.scale_embeddings = True
        side.position_encodings.encodings = found["positions"]
        norm(side.layer_norm, f"{name}.norm")
        for n, layer in enumerate(side.layer):
            here = f"{name}.layers.{n}"
            norm(layer.self_attention.layer_norm, f"{here}.around_attention.norm")
            linear(layer.self_attention.linear[0], f"{here}.attention.qkv")
            linear(layer.self_attention.linear[1], f"{here}.attention.output")
            if side is spec.decoder:
                norm(layer.attention.layer_norm, f"{here}.around_cross.norm")
                for place, part in enumerate(("query", "kv", "output")):
                    linear(layer.attention.linear[place], f"{here}.cross.{part}")
            norm(layer.ffn.layer_norm, f"{here}.around_feed_forward.norm")
            linear(layer.ffn.linear_0, f"{here}.feed_forward.inner")
            linear(layer.ffn.linear_1, f"{here}.feed_forward.outer")
    spec.decoder.projection.weight, spec.decoder.projection.bias = table, found["head.bias"]
    vocabulary = found["vocabulary"].tolist()
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.add_source_eos = True
    spec.config.add_source_bos = False
    spec.validate()
    spec.optimize()
    spec.save(str(folder))


def translate(folder: Path, source: Path, output: Path, options: argparse.Namespace) -> None:
    """Says how many sentences a second, without what loading took."""
    import ctranslate2

    if options.vmap is not None:
        (folder / "vmap.txt").write_bytes(options.vmap.read_bytes())
    model = ctranslate2.Translator(str(folder), device="cpu", compute_type=options.precision, inter_threads=1)
    lines = [line.split(" ") for line in source.read_text(encoding="utf-8").split("\n")[:-1]]
    limits = (
        {} if options.steps is None else {"min_decoding_length": options.steps, "max_decoding_length": options.steps}
    )
    start = time.perf_counter()
    found = model.translate_batch(
        lines, beam_size=5, max_batch_size=2048, batch_type="tokens", use_vmap=options.vmap is not None, **limits
    )
    print(f"{len(lines) / (time.perf_counter() - start):.1f} sentences/s")
    output.write_text("".join(" ".join(one.hypotheses[0]) + "\n" for one in found), encoding="utf-8")


def pieces(run: Path, source: Path, output: Path) -> None:
    from nmt.rundir import RunDir
    from nmt.text.lines import read_lines

    tokenizer = RunDir(run).tokenizers()[0]
    rows = (" ".join(tokenizer.pieces(tokenizer.encode(line))) + "\n" for line in read_lines(source))
    output.write_text("".join(rows), encoding="utf-8")


def text(run: Path, source: Path, output: Path) -> None:
    from nmt.rundir import RunDir
    from nmt.text.lines import read_lines

    tokenizer = RunDir(run).tokenizers()[1]
    ids = {piece: n for n, piece in enumerate(tokenizer.pieces(range(len(tokenizer))))}
    rows = (tokenizer.decode([ids[piece] for piece in line.split(" ") if piece]) + "\n" for line in read_lines(source))
    output.write_text("".join(rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["weights", "build", "translate", "pieces", "text"])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--precision", default="float32", help="of translate: float32 or int8")
    parser.add_argument("--vmap", type=Path, help="of translate: a shortlist, as `nmt shortlist` writes it")
    parser.add_argument("--steps", type=int, help="of translate: so many tokens for each output")
    options = parser.parse_args()
    match options.action:
        case "weights":
            weights(*options.paths)
        case "build":
            build(*options.paths)
        case "translate":
            translate(*options.paths, options)
        case "pieces":
            pieces(*options.paths)
        case "text":
            text(*options.paths)


if __name__ == "__main__":
    main()
