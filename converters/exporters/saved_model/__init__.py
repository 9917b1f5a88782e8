"""Keras model -> SavedModel folder for TensorFlow Serving, verified without Keras."""

from edgelstm.converters.exporters.saved_model.export import Served, ServedTensor, export_saved_model
from edgelstm.converters.exporters.saved_model.place import check_folder, placed_folder
from edgelstm.converters.exporters.saved_model.verify import verify_saved_model

__all__ = ["Served", "ServedTensor", "check_folder", "export_saved_model", "placed_folder", "verify_saved_model"]
