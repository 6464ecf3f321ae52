"""Classification by a diffusion language model, attacks on it, and what protects from them: certified votes over masked
texts, and training under perturbed embeddings. Drafts of other models, revised."""
