"""Tasks with exact answers, generated from a seed: what a small model can learn, and what punishes parallel writing."""
