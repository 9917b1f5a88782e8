"""Rewriting configurations of Keras 1 and 2 so that Keras 3 builds them: data to data, no code is run."""

from edgelstm.converters.loading.rewriting.base import Context, Writer
from edgelstm.converters.loading.rewriting.models import rewrite_model

__all__ = ["Context", "Writer", "rewrite_model"]
