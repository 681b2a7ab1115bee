"""Completions worth keeping: what best-of-N gives, and data for the next round of SFT."""
