"""Faults that a run can have, each injected into a short run of the embedded model."""
