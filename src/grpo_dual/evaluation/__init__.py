"""The room of evaluation; see docs/map.md."""
