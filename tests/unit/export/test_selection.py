"""The selection inside the step graph: the best candidates of a row and their log-probabilities."""

import math

import pytest
import torch

from export.selection import BLOCK, MIN_BLOCKS, SAFE_REACH, reach_behind, reach_of, select
from export.transformer.parts import Scaled

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("reach", [SAFE_REACH, SAFE_REACH + 1])
@pytest.mark.parametrize("vocabulary", [50, BLOCK * MIN_BLOCKS, BLOCK * MIN_BLOCKS + 5, 8000])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_blocks_give_what_a_search_of_all_gives(vocabulary: int, k: int, reach: float) -> None:
    """Searching the best blocks finds the best candidates, in order, whatever the vocabulary's size."""
    logits = 9 * torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    log_probs, ids = select(logits, torch.tensor([k]), reach)
    expected = logits.log_softmax(dim=-1).topk(k)
    torch.testing.assert_close(expected.values, log_probs, atol=1e-5, rtol=0)
    assert torch.equal(expected.indices, ids)


@pytest.mark.parametrize(("scale", "reach"), [(1.0, SAFE_REACH), (20.0, 20 * SAFE_REACH)])
def test_logits_of_any_size(scale: float, reach: float) -> None:
    """Neither logits at the limit of what is safe nor much larger ones become infinite."""
    logits = torch.full((2, 8000), scale * SAFE_REACH)
    logits[1] *= -1
    log_probs, _ = select(logits, torch.tensor([3]), reach)
    torch.testing.assert_close(torch.full((2, 3), -8000.0).abs().log().neg(), log_probs, atol=1e-4, rtol=0)


def test_reach_bounds_every_logit() -> None:
    """Features in [-1, 1] reach it, and never go beyond."""
    output = torch.nn.Linear(3, 2)
    output.weight.data = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, 0.0]])
    output.bias.data = torch.tensor([-0.5, 1.0])
    assert reach_of(output) == 6.5
    assert output(torch.tensor([-1.0, 1.0, -1.0])).abs().max().item() == reach_of(output)


@pytest.mark.parametrize("factor", [1.0, -0.5])
def test_what_a_norm_gives_out_bounds_every_logit(factor: float) -> None:
    """Features along the largest word's weights come near its bound, none goes beyond; ignored words do not count."""
    torch.manual_seed(1)
    inner, output = torch.nn.LayerNorm(64), torch.nn.Linear(64, 40)
    inner.weight.data, inner.bias.data = torch.rand(64) + 0.5, torch.randn(64)
    norm = Scaled(inner, factor)
    output.weight.data -= output.weight.data.mean(dim=1, keepdim=True)
    output.weight.data[0], output.bias.data[0] = 100.0, -1e9
    along = (output.weight * inner.weight)[1:]
    hidden = torch.cat((along, -along, torch.randn(1000, 64)))
    reach = reach_behind(norm, output, -1e9)
    assert 0.9 * reach < output(norm(hidden))[:, 1:].abs().max().item() <= reach


def test_without_a_norm_of_known_scale_there_is_no_bound() -> None:
    """What is no norm, or one without weights, promises nothing."""
    assert math.inf == reach_behind(torch.nn.Identity(), torch.nn.Linear(3, 2), -1e9)
