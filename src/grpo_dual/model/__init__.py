"""The room of model; see docs/map.md."""

import logging

# PEFT imports bitsandbytes wherever it is installed, and that warns on some CPUs of a kernel which
# it would rather download; nothing here uses it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
