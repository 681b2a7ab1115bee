"""The room of rewards; see docs/map.md."""
