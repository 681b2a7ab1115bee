"""The room of loss; see docs/map.md."""
