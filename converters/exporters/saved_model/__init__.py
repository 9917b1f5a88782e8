"""Keras model -> SavedModel folder for TensorFlow Serving, verified without Keras."""

from edgelstm.converters.exporters.saved_model.export import Served, check_folder, export_saved_model, place_folder
from edgelstm.converters.exporters.saved_model.verify import verify_saved_model

__all__ = ["Served", "check_folder", "export_saved_model", "place_folder", "verify_saved_model"]
