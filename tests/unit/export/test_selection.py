"""The selection inside the step graph: the best candidates of a row."""

import pytest
import torch

from export.graphs import BLOCK, MIN_BLOCKS, best_candidates

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("vocabulary", [50, BLOCK * MIN_BLOCKS, BLOCK * MIN_BLOCKS + 5, 8000])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_blocks_give_what_a_search_of_all_gives(vocabulary: int, k: int) -> None:
    """Searching the best blocks finds the best candidates, in order, whatever the vocabulary's size."""
    log_probs = torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(vocabulary)).log_softmax(dim=-1)
    values, ids = best_candidates(log_probs, torch.tensor([k]))
    expected = log_probs.topk(k)
    assert torch.equal(expected.values, values)
    assert torch.equal(expected.indices, ids)
