"""The reversal curse: whether a model that was told "A is B" can say of B that it is A."""
