"""The room of model; see docs/map.md."""
