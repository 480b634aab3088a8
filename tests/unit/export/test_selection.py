"""The selection inside the step graph: the best candidates of a row and their log-probabilities."""

import pytest
import torch

from export.selection import BLOCK, MIN_BLOCKS, select

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("vocabulary", [50, BLOCK * MIN_BLOCKS, BLOCK * MIN_BLOCKS + 5, 8000])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_blocks_give_what_a_search_of_all_gives(vocabulary: int, k: int) -> None:
    """Searching the best blocks finds the best candidates, in order, whatever the vocabulary's size."""
    logits = 9 * torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    log_probs, ids = select(logits, torch.tensor([k]))
    expected = logits.log_softmax(dim=-1).topk(k)
    torch.testing.assert_close(expected.values, log_probs, atol=1e-5, rtol=0)
    assert torch.equal(expected.indices, ids)


@pytest.mark.parametrize("size", [70.0, 1400.0])
def test_logits_of_any_size(size: float) -> None:
    """Neither those whose exponentials are just finite nor much larger ones become infinite."""
    logits = torch.full((2, 8000), size)
    logits[1] *= -1
    log_probs, _ = select(logits, torch.tensor([3]))
    torch.testing.assert_close(torch.full((2, 3), -8000.0).abs().log().neg(), log_probs, atol=1e-4, rtol=0)
