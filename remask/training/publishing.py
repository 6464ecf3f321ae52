"""The folders that a run publishes, `latest/` and `best/`: weights to use, what they come from, and a model card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning

from remask.checkpoints import folder
from remask.checkpoints.adapters import LEARNT
from remask.likelihood import Estimate
from remask.training.adapters import merged, write_adapters
from remask.training.ema import EMA, published_weights
from remask.training.fine_tuning import Conversations, fine_tuned_on
from remask.training.module import Module
from remask.training.plan import Plan
from remask.training.sharding import gather_weights
from remask.training.start import Setup
from remask.training.validation import Validation


class Publishing:
    """Writes the published folders of a run."""

    def __init__(self, setup: Setup, plan: Plan, average: EMA | None, validation: Validation) -> None:
        self.recipe, self.batches, self.prepared, self.lora = setup.recipe, setup.batches, setup.prepared, setup.lora
        before = {} if setup.start is None else setup.start.about
        self.learnt_before = {key: before[key] for key in LEARNT if key in before}
        """What the checkpoint that the run starts from has learnt, and this one so far keeps."""
        self.plan, self.average, self.validation = plan, average, validation

    def publish(self, trainer: lightning.Trainer, module: Module, names: list[str], step: int) -> None:
        """Writes published folders with the weights to use, which all processes gather and the first one writes."""
        out = self.recipe.out
        with published_weights(self.average, module.denoiser):
            weights = gather_weights(module.denoiser)
            if trainer.is_global_zero:
                shape, about = module.denoiser.architecture, self.about(module, step)
                if self.lora.rank:
                    if "latest" in names:
                        write_adapters(out / "adapter", weights, self.lora, self.recipe.model, about)
                    weights = merged(weights, self.lora)
                text = model_card(module, about, self.validation.estimate)
                about = self.learnt_before | about
                for name in names:
                    folder.save(out / name, weights, shape, module.family, self.prepared.tokenizer, about, text)

    def about(self, module: Module, step: int) -> dict[str, Any]:
        """What a published folder says of the run that it comes from."""
        recipe, plan = self.recipe, self.plan
        about: dict[str, Any] = {
            "data": Path(recipe.source).name,
            "steps": plan.steps,
            "tokens_a_step": plan.tokens,
            "parameters": replace(module.denoiser.architecture, time=False).non_embedding,
            "reads": module.family.reads,
            "unique_tokens": self.batches.unique_tokens,
            "flops_6n": plan.steps * plan.flops_6n,
            "lr": module.optimizer.peak,
            **({"flops_6n_before": plan.flops_6n_before} if plan.flops_6n_before else {}),
            "options": {name: value for name, value in recipe.to_dict().items() if name != "data"},
            "step": step,
        }
        if isinstance(self.prepared, Conversations):
            about["conversations"] = self.prepared.about
        return about | self.validation.about()


def model_card(module: Module, about: dict[str, Any], found: Estimate | None) -> str:
    """The README of a published folder."""
    shape = module.denoiser.architecture
    lines = [
        f"# {type(module.family).__name__} language model, {shape.parameters:,} parameters",
        "",
        f"{shape.non_embedding:,} without embeddings. Trained with remask on {about['data']}.",
        "",
        f"* step {about['step']:,} of {about['steps']:,}, {about['tokens_a_step']:,} tokens a step",
    ]
    if "conversations" in about:
        lines.append(f"* {fine_tuned_on(about['conversations'])}")
    if "flops_6n_before" in about:
        before, own = about["flops_6n_before"], about["flops_6n"] * about["step"] / about["steps"]
        lines.append(
            f"* trained on from {about['options']['model']}: {before:.3g} FLOPs (6 N D) went into that checkpoint, "
            f"{own:.3g} into this run, {before + own:.3g} together"
        )
    if found is not None:
        lines.append(f"* validation: -log p {found} ({found.kind})")
    if "left_to_right" in about:
        lines.append(
            f"* a few rows: written from left to right = {about['left_to_right']:.4f} bits/byte, "
            f"bound <= {about['bound_of_the_same_rows']:.4f}"
        )
    lines += ["", "```", "remask sample FOLDER", "```", ""]
    return "\n".join(lines)
