"""Scaling laws and their errors, from the runs that are finished."""
