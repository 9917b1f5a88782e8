"""SavedModel folders: models of tf.keras by their configuration, all others by their serving signature."""

from edgelstm.converters.loading.saved_model.read import read

__all__ = ["read"]
