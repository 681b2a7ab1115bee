"""Multi-objective GRPO post-training for language models."""
