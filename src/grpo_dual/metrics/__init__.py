"""The room of metrics; see docs/map.md."""
