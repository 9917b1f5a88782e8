"""Pictures of trainings: learning curves, confusion, architecture."""

from edgelstm.pictures.architecture import draw_architecture
from edgelstm.pictures.confusion import draw_confusion
from edgelstm.pictures.curves import draw_curves

__all__ = ["draw_architecture", "draw_confusion", "draw_curves"]
