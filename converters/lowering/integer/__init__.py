"""Full integer form: the graph around the LSTMs by TensorFlow's quantizer, the LSTMs themselves here.

TensorFlow's quantizer sees the cell state only at the end of a sequence, gives one LSTM several scales
where its output has two readers, and refuses files that read the cell state. So the carriers are cut
out before it runs: what they read becomes an output of the graph, what they write an input. Afterwards
each LSTM is put back in its integer form, with scales chosen from ranges observed over all time steps.
"""

from __future__ import annotations

from edgelstm.converters.lowering.integer.checks import check_integer
from edgelstm.converters.lowering.integer.cutting import Cut, cut_carriers
from edgelstm.converters.lowering.integer.given import place_ranges
from edgelstm.converters.lowering.integer.interface import integer_io
from edgelstm.converters.lowering.integer.islands import Islands, cut_islands, restore_islands
from edgelstm.converters.lowering.integer.ranges import Ranges, asymmetric, cell_exponent
from edgelstm.converters.lowering.integer.restoring import restore_lstms

__all__ = [
    "Cut",
    "Islands",
    "Ranges",
    "asymmetric",
    "cell_exponent",
    "check_integer",
    "cut_carriers",
    "cut_islands",
    "integer_io",
    "place_ranges",
    "restore_islands",
    "restore_lstms",
]
