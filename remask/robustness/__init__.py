"""Classification by a diffusion language model, attacks on it, and certified votes over masked texts, which protect
from them; drafts of other models, revised. Training under perturbed embeddings: `remask.training.adversarial`."""
