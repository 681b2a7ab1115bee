"""The room of records; see docs/map.md."""
