"""Batches, and what decoders look at: padding, masks, selection, the way to a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nmt.data.batch import BOS, EOS, PAD, Batch, Padded, collate, pad
from nmt.models.interface import Memory, Source


def test_pad() -> None:
    padded = pad([[5, 6, 7], [8], [9, 10]])
    assert padded.ids.tolist() == [[5, 6, 7], [8, PAD, PAD], [9, 10, PAD]]
    assert padded.ids.dtype == padded.lengths.dtype == torch.int64
    assert padded.lengths.tolist() == [3, 1, 2]
    assert not padded.full


def test_pad_takes_arrays_of_any_width_and_empty_rows() -> None:
    padded = pad([np.array([70_000], np.int64), []])
    assert padded.ids.tolist() == [[70_000], [PAD]]
    assert padded.lengths.tolist() == [1, 0]


@pytest.mark.parametrize("rows", [[[4, 5], [6, 7]], [[4]]])
def test_where_nothing_is_padded_there_is_no_mask(rows: list[list[int]]) -> None:
    padded = pad(rows)
    assert padded.full
    assert padded.mask is None


def test_mask_is_true_on_real_tokens() -> None:
    mask = pad([[5, 6, 7], [8]]).mask
    assert mask is not None
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def test_mask_goes_by_length_not_by_id() -> None:
    mask = Padded(torch.tensor([[PAD, 5], [6, 7]]), torch.tensor([2, 1]), False).mask
    assert mask is not None
    assert mask.tolist() == [[True, True], [True, False]]


def test_collate_adds_the_special_tokens() -> None:
    batch = collate([[5, 6], [7]], [[8], [9, 10]])
    assert batch.tgt is not None
    assert batch.src.ids.tolist() == [[5, 6, EOS], [7, EOS, PAD]]
    assert batch.tgt.ids.tolist() == [[BOS, 8, EOS, PAD], [BOS, 9, 10, EOS]]
    assert batch.src.lengths.tolist() == [3, 2]
    assert batch.tgt.lengths.tolist() == [3, 4]
    assert (batch.copy_ids, batch.extras, batch.indices.tolist()) == (None, 0, [0, 1])


def test_collate_without_targets_and_with_positions() -> None:
    batch = collate([[5], [6]], index=[41, 7])
    assert batch.tgt is None
    assert batch.src.full
    assert batch.indices.tolist() == [41, 7]


def test_collate_leaves_its_arguments_alone() -> None:
    src = [[5, 6], [7]]
    collate(src, src)
    assert src == [[5, 6], [7]]


def tensors(batch: Batch) -> list[torch.Tensor]:
    """Those that models read."""
    tgt = () if batch.tgt is None else batch.tgt[:2]
    return [*batch.src[:2], *tgt, *([] if batch.copy_ids is None else [batch.copy_ids])]


@pytest.mark.parametrize("with_everything", [True, False])
def test_a_batch_goes_to_a_device_whole(with_everything: bool) -> None:
    """`meta` is a device that every machine has. What only the CPU asks for stays there."""
    batch = collate([[5, 6], [7]], [[8], [9]] if with_everything else None)
    if with_everything:
        batch = batch._replace(copy_ids=torch.zeros(2, 3, dtype=torch.int64), extras=2)
    moved = batch.to(torch.device("meta"))
    assert type(moved) is Batch
    assert (moved.tgt is None, moved.copy_ids is None) == (not with_everything, not with_everything)
    before, after = tensors(batch), tensors(moved)
    assert len(before) == (5 if with_everything else 2)
    assert [tensor.shape for tensor in after] == [tensor.shape for tensor in before]
    assert {tensor.device.type for tensor in after} == {"meta"}
    assert moved.src.full == batch.src.full
    assert moved.extras == batch.extras
    assert moved.indices.device.type == "cpu"


def source(mask: bool, copying: bool) -> Source:
    """Three sentences whose tensors hold the number of their sentence everywhere."""
    number = torch.arange(3)
    memory = Memory(
        number[:, None, None].expand(3, 4, 5).float(),
        (number[:, None] >= torch.arange(4)) if mask else None,
        number[:, None].expand(3, 5).float(),
    )
    keys = (number[:, None, None].expand(3, 4, 2).float(), number[:, None, None].expand(3, 4, 6).float())
    return Source(memory, keys, keys[:1], number[:, None].expand(3, 4) if copying else None, 7)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("copying", [True, False])
@pytest.mark.parametrize("rows", [[2, 0], [1], [0, 1, 2], []])
def test_select_takes_every_part_of_the_sentences(mask: bool, copying: bool, rows: list[int]) -> None:
    selected = source(mask, copying).select(torch.tensor(rows, dtype=torch.int64))
    assert selected.memory.states[:, 3, 4].tolist() == rows
    assert selected.memory.summary[:, 4].tolist() == rows
    assert [key[:, 0, 0].tolist() for key in selected.keys] == [rows, rows]
    assert [key.shape[1:] for key in selected.keys] == [(4, 2), (4, 6)]
    assert selected.extras == 7
    assert (selected.copy_ids is not None) == copying
    if selected.copy_ids is not None:
        assert selected.copy_ids[:, 1].tolist() == rows
    assert (selected.memory.mask is not None) == mask
    if selected.memory.mask is not None:
        assert selected.memory.mask.sum(dim=1).tolist() == [n + 1 for n in rows]
