"""The room of cli; see docs/map.md."""
