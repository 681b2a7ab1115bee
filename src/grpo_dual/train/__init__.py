"""The room of train; see docs/map.md."""
