"""Reading Keras models from files that nobody has vouched for."""

from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.load import load_model

__all__ = ["Loaded", "load_model"]
