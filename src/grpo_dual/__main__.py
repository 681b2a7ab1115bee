"""``python -m grpo_dual`` is the ``grpo-dual`` command."""

import sys

from grpo_dual.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
