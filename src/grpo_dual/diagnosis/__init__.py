"""Health of a run: what is wrong, why, and the line of configuration that mends it."""
