"""Says where a file runs, and where it answers rightly on every call.

`table` lists the runtimes, each with a rule that looks at the `facts` of a file; `entries` puts the matrix together;
`runs` replaces rules by what is seen when the file is run.
"""

from __future__ import annotations

from edgelstm.runtime.support.entries import Support, find_support, support_entries
from edgelstm.runtime.support.examination import Examination, examine
from edgelstm.runtime.support.facts import Facts, read_facts
from edgelstm.runtime.support.table import PLATFORMS, RUNTIMES

__all__ = [
    "PLATFORMS",
    "RUNTIMES",
    "Examination",
    "Facts",
    "Support",
    "examine",
    "find_support",
    "read_facts",
    "support_entries",
]
