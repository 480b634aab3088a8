"""The model family: padding never changes a result, and a step at a time equals all positions at once."""

import dataclasses

import pytest
import torch

from export.models.attention_rnn import AttentionRnn, AttentionRnnConfig, Decoded
from tests.export.tiny import CONFIGS, name_of, random_model

pytestmark = pytest.mark.torch

LENGTHS = torch.tensor([4, 9, 1, 9])
TARGETS = torch.randint(4, 60, (4, 6), generator=torch.Generator().manual_seed(3))


def sources() -> torch.Tensor:
    """Return padded ids `[4, 9]`; what stands in the padding must not matter, so it is not zero."""
    return torch.randint(4, 50, (4, 9), generator=torch.Generator().manual_seed(5))


def run(model: AttentionRnn, ids: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor) -> Decoded:
    """Encode and decode all positions at once."""
    memory, state = model.encode(ids, lengths)
    return model.decode(targets, state, memory)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@torch.inference_mode()
def test_padding_changes_nothing(config: AttentionRnnConfig) -> None:
    """A row alone gives what it gives beside longer rows; attention to padding is exactly zero."""
    model, ids = random_model(config), sources()
    batch = run(model, ids, LENGTHS, TARGETS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = run(model, ids[row : row + 1, :length], LENGTHS[row : row + 1], TARGETS[row : row + 1])

        torch.testing.assert_close(alone.features, batch.features[row : row + 1], atol=1e-6, rtol=0)
        for expected, actual in zip(alone.state, batch.state, strict=True):
            torch.testing.assert_close(expected, actual[row : row + 1], atol=1e-6, rtol=0)
        if batch.attention is not None:
            assert 0.0 == batch.attention[row, :, length:].sum()
            torch.testing.assert_close(torch.ones(6), batch.attention[row].sum(dim=-1))


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@torch.inference_mode()
def test_steps_equal_parallel_decoding(config: AttentionRnnConfig) -> None:
    """Decoding token after token gives what training sees, which runs over all positions at once."""
    model = random_model(config)
    memory, state = model.encode(sources(), LENGTHS)
    expected = model.decode(TARGETS, state, memory)
    for position in range(TARGETS.shape[1]):
        step = model.decode(TARGETS[:, position : position + 1], state, memory)
        state = step.state

        torch.testing.assert_close(expected.features[:, position], step.features[:, 0], atol=1e-6, rtol=0)
        if expected.attention is not None and step.attention is not None:
            torch.testing.assert_close(expected.attention[:, position], step.attention[:, 0], atol=1e-6, rtol=0)


@torch.inference_mode()
def test_without_attention_only_the_final_state_counts() -> None:
    """Plain seq2seq decodes the same whatever the memory holds."""
    model = random_model(AttentionRnnConfig(50, 60, attention="none", embedding_size=8, hidden_size=12))
    memory, state = model.encode(sources(), LENGTHS)
    other = memory._replace(states=torch.zeros_like(memory.states), keys=torch.zeros_like(memory.keys))

    assert torch.equal(model.decode(TARGETS, state, memory).features, model.decode(TARGETS, state, other).features)


def test_log_probs_are_normalized() -> None:
    """The probabilities of all words sum to one."""
    model = random_model(CONFIGS[0])
    log_probs = model.log_probs(torch.randn(3, 8))

    torch.testing.assert_close(torch.ones(3), log_probs.exp().sum(dim=-1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "rnn"}, "use 'lstm' or 'gru'"),
        ({"attention": "luong"}, "use 'dot', 'general', 'concat' or 'none'"),
        ({"hidden_size": 13}, "it must be even"),
        ({"decoder_layers": 0}, "decoder_layers must be a whole number of at least 1"),
        ({"dropout": 1.0}, "it must lie in"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], message: str) -> None:
    """A configuration that cannot work is refused with the values that can."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIGS[0], **changes)  # type: ignore[arg-type]
