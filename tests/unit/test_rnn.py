"""The recurrent encoder against PyTorch's own packed bidirectional layers with the same weights."""

import pytest
import torch
from zoo import batch, build


@pytest.mark.parametrize("name", ["lstm", "lstm-deep-feeding", "gru-deep"])
def test_encoder_equals_packed_bidirectional(name):
    model, pairs = build(name), batch(6)
    encoder = model.encoder
    layers = len(encoder.forwards)
    kind = type(encoder.forwards[0])
    reference = kind(encoder.embedding.width, encoder.width // 2, layers, batch_first=True, bidirectional=True).eval()
    with torch.no_grad():
        for layer in range(layers):
            for suffix, ours in (("", encoder.forwards[layer]), ("_reverse", encoder.backwards[layer])):
                for weight in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(reference, f"{weight}_l{layer}{suffix}").copy_(getattr(ours, f"{weight}_l0"))
    embedded = encoder.embedding(pairs.src.ids)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        embedded, pairs.src.lengths, batch_first=True, enforce_sorted=False
    )
    outputs, final = reference(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    memory = encoder(pairs.src)
    torch.testing.assert_close(memory.states, expected, atol=1e-5, rtol=1e-5)
    hidden = final[0] if isinstance(final, tuple) else final  # [2L,B,D/2]
    torch.testing.assert_close(memory.summary, torch.cat([hidden[-2], hidden[-1]], dim=-1), atol=1e-5, rtol=1e-5)
