"""How good trained models are."""
