"""Target "profile:NAME": estimates for devices that are not here, from numbers in `profiles/` with their sources.

`work` reads what a model computes, `cost` how long a `device` takes for that, with the constants of `calibration`;
`host` makes a profile of this machine, on which the method is compared with measurement.
"""

from __future__ import annotations

from edgelstm.targets.profile.target import KIND, ProfileTarget

__all__ = ["KIND", "ProfileTarget"]
