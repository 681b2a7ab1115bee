"""The room of prompts; see docs/map.md."""
