"""Makes `python -m edgelstm` the same as `edgelstm`."""

from __future__ import annotations

import sys

from edgelstm.cli import main

sys.exit(main())
