"""The room of judges; see docs/map.md."""
