"""Scaling laws: plan, run, fit and report."""
