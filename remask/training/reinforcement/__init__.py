"""Reinforcement learning: texts of the model's own, rewarded by a computed reward. One file for each objective."""
