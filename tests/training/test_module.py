"""A step of training, through Lightning, on rows that have different numbers of scored tokens."""

import logging
from pathlib import Path

import lightning
import pytest
import torch
from tables import tiny
from torch import Tensor

from remask.batch import Batch
from remask.data.batches import Batches, Rows
from remask.data.tokens import open_tokens
from remask.families.masked import Masked
from remask.training.module import Module
from remask.training.optim import Optimizer
from remask.training.run import StepCounter
from remask.vocabulary import Vocabulary


class Uneven(Batches):
    """Of row i of a global batch of 8, only the last 1 + 8 (i % 8) tokens are scored."""

    def share(self, index: int, first: int = 0, count: int | None = None) -> Batch:
        batch = super().share(index, first, count)
        least = 63 - 8 * torch.arange(first, first + len(batch.tokens))[:, None]
        scored = torch.arange(64) >= least
        every = sum(1 + 8 * i for i in range(self.batch))
        return Batch(batch.tokens, scored, offset=first, global_rows=self.batch, global_tokens=every)


def trained(corpus: Path, out: Path, accumulate: int, devices: int) -> tuple[dict[str, Tensor], float]:
    """Weights after three steps, and the gradient's norm in the last."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model = tiny(258, 257, seed=1).train()
    family = Masked().over(Vocabulary(size=258, mask=257))
    batches = Uneven(Rows(open_tokens(corpus).train, 64), 8, seed=0)
    module = Module(model, family, batches, Optimizer(lr=0.01, clip=1.0), 3, 0)
    module.micro = accumulate
    lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        max_steps=3,
        accumulate_grad_batches=accumulate,
        default_root_dir=out,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(module, StepCounter(0))
    return {k: v.detach().clone() for k, v in model.state_dict().items()}, module.gradient_norm


@pytest.mark.parametrize(("accumulate", "devices"), [(2, 1), (8, 1), (1, 2), (2, 2)])
def test_shares_of_unequal_numbers_of_tokens_make_the_step_of_one(
    corpus: Path, tmp_path: Path, accumulate: int, devices: int
) -> None:
    whole, norm = trained(corpus, tmp_path, 1, 1)
    found, _ = trained(corpus, tmp_path, accumulate, devices)
    assert norm > 0
    for name, weight in whole.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5)
