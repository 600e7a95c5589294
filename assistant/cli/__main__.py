"""``python -m assistant.cli``: the command line without its installed script."""

import sys

from assistant.cli.main import main

sys.exit(main())
