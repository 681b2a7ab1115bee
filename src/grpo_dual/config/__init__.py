"""The room of config; see docs/map.md."""
