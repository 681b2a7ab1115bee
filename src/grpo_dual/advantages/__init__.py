"""The room of advantages; see docs/map.md."""
