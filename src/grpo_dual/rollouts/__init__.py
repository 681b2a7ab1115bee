"""The room of rollouts; see docs/map.md."""
