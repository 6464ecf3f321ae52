"""After the last step: how many of the pairs that were held out the published model prefers as the data do."""

import json
import math
from pathlib import Path

import torch

from remask.checkpoints.checkpoint import load
from remask.files import write_atomically
from remask.likelihood.masks import error_of_mean
from remask.seeds import mix_seeds
from remask.terminal import progress, say
from remask.training.fine_tuning import Conversations
from remask.training.preference.loss import PreferenceLoss, preferred
from remask.training.preference.margin import SharedNoise, bounds
from remask.training.preference.pairs import PairBatches, pair_rows
from remask.training.start import Setup
from remask.training.states import list_states

HELD_OUT = "preferences.json"
"""The file of a run directory with what was found."""


def measure_held_out(setup: Setup, most: int, minimised: PreferenceLoss, folder: Path) -> None:
    """Measures the model of a published folder against the reference of its run on up to `most` pairs, and writes down
    accuracy and margin. Their errors are those of a mean over pairs, the noise of the bounds included."""
    held, batches, family, out = setup.prepared, setup.batches, setup.family, setup.recipe.out
    assert isinstance(held, Conversations) and isinstance(batches, PairBatches)
    count = min(most, held.valid.conversations)
    if not count:
        return
    if not minimised.known:
        state = torch.load(list_states(out)[0], map_location="cpu", weights_only=True)["state_dict"]
        start = "objective."
        minimised.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
    policy = load(folder, device=setup.device.type, precision="stored").model
    reference, draws = minimised.reference.to(setup.device), minimised.objective.copies(family)
    rng, margins = torch.Generator().manual_seed(mix_seeds(setup.recipe.seed, 7)), []
    with torch.inference_mode(), progress("held-out pairs", count, "pairs") as tick:
        for pair in range(count):
            rows = pair_rows(held.valid, [pair], batches.layout).to(setup.device)
            noise = SharedNoise.draw(rows, draws, rng)
            gains = bounds(policy, family, rows, noise) - bounds(reference, family, rows, noise)
            margins.append(float(gains[0] - gains[1]))
            tick(1)
    margin = torch.tensor(margins, dtype=torch.float64)
    numbers = {"accuracy": preferred(margin), "margin": margin}
    found = {name: (float(values.mean()), error_of_mean(values)) for name, values in numbers.items()}
    written = {name: {"mean": mean, "stderr": None if math.isnan(e) else e} for name, (mean, e) in found.items()}
    write_atomically(out / HELD_OUT, json.dumps({"pairs": count} | written, indent=2) + "\n")
    (accuracy, a), (mean, m) = found["accuracy"], found["margin"]
    say(f"{count:,} held-out pairs: accuracy {accuracy:.3f} +- {a:.3f}, margin {mean:.3f} +- {m:.3f} nats")
