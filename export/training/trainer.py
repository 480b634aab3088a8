"""The training loop: resumable at any moment, with its progress told as it goes."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from export.training.batches import Batch, Batches, Example, collate
from export.training.learner import Learner
from export.training.progress import Progress
from export.training.recipe import Recipe

TRAINING_STATE = "training.pt"
HISTORY = "history.jsonl"
SAVE_EVERY_SECONDS = 120.0

Evaluate = Callable[[], float]


def pick_device() -> torch.device:
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it faster than float32."""
    if device.type == "cuda":
        pays = torch.cuda.is_bf16_supported()
    else:
        capabilities = torch.cpu.get_capabilities()
        pays = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return torch.bfloat16 if pays else torch.float32


class Trainer:
    """Owns the model, the optimizer and the position in the data."""

    def __init__(
        self, learner: Learner, examples: Sequence[Example], recipe: Recipe, folder: Path, evaluate: Evaluate
    ) -> None:
        self._device = pick_device()
        self._dtype = pick_dtype(self._device)
        self._learner = learner
        self._model = learner.model.to(self._device)
        self._recipe = recipe
        self._folder = folder
        self._evaluate = evaluate
        self._batches = Batches(examples, recipe.max_tokens, recipe.seed)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
        )
        self._update, self._pass, self._position, self._tokens = 0, 0, 0, 0
        self._best, self._stale = -math.inf, 0

    def run(self) -> float:
        """Train to the end of the budget, or until dev stops getting better; return the best chrF."""
        self._resume()
        progress = Progress(self._recipe.updates, self._update)
        saved = time.monotonic()
        batches = self._stream()
        while self._update < self._recipe.updates and self._stale < self._recipe.patience:
            seen = self._tokens
            loss = self._train_on(next(batches))
            progress.advance(loss, self._tokens - seen, self._learning_rate)
            if self._update % self._recipe.evaluate_every == 0 or self._update == self._recipe.updates:
                self._judge(progress)
            if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                self._save()
                saved = time.monotonic()
        self._save()
        return self._best

    @property
    def _learning_rate(self) -> float:
        return self._recipe.learning_rate_at(self._update)

    def _stream(self) -> Iterator[Batch]:
        while True:
            batches = self._batches.of_pass(self._pass)
            for examples in batches[self._position :]:
                self._position += 1
                yield collate(examples, self._learner.pad_id, self._learner.start_id)
            self._pass, self._position = self._pass + 1, 0

    def _train_on(self, batch: Batch) -> float:
        """Update once; return the loss in nats per target token."""
        batch = Batch(*(part.to(self._device) for part in batch))
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate
        # Dropout of an update depends on its number alone, so that a resumed run repeats an uninterrupted one.
        torch.manual_seed(self._recipe.seed + self._update)
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip_norm)
        self._optimizer.step()
        self._update += 1
        self._tokens += int((batch.labels != self._learner.pad_id).sum())
        return loss.item()

    def _loss(self, batch: Batch) -> Tensor:
        """Return the label-smoothed cross-entropy (Szegedy et al. 2016, section 7) per target token."""
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits = self._learner.logits(batch)
        labels = batch.labels[batch.labels != self._learner.pad_id]
        return functional.cross_entropy(logits, labels, label_smoothing=self._recipe.label_smoothing)

    def _judge(self, progress: Progress) -> None:
        self._model.eval()
        score = self._evaluate()
        decaying = self._recipe.learning_rate_at(self._update) < self._recipe.learning_rate
        if score > self._best:
            self._best, self._stale = score, 0
            self._learner.save()
        elif not decaying:
            self._stale += 1
        progress.evaluated(score, self._best)
        record = {"update": self._update, "pass": self._pass, "target_tokens": self._tokens,
                  "seconds": round(progress.seconds, 1), "loss": round(progress.loss, 4),
                  "learning_rate": self._learning_rate, "dev_chrf": round(score, 2)}  # fmt: skip
        with (self._folder / HISTORY).open("a", encoding="utf-8") as history:
            history.write(json.dumps(record) + "\n")

    def _save(self) -> None:
        state = {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict(),
                 "update": self._update, "pass": self._pass, "position": self._position, "tokens": self._tokens,
                 "best": self._best, "stale": self._stale}  # fmt: skip
        part = self._folder / (TRAINING_STATE + ".part")
        torch.save(state, part)
        part.replace(self._folder / TRAINING_STATE)

    def _resume(self) -> None:
        path = self._folder / TRAINING_STATE
        if not path.exists():
            return
        state = torch.load(path, map_location=self._device, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._update, self._pass, self._position = state["update"], state["pass"], state["position"]
        self._tokens, self._best, self._stale = state["tokens"], state["best"], state["stale"]
