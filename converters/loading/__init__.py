"""Reading Keras models from files that nobody has vouched for."""

from edgelstm.converters.loading.load import load_model

__all__ = ["load_model"]
