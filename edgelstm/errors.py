"""Errors a caller may want to tell apart.

    EdgeLSTMError
    +-- MissingExtraError     an optional dependency is not installed
    +-- LoadError             a model file cannot be read or is not safe to read
    +-- DataError             data to train with cannot be read, or nothing can be learnt from it
    +-- SettingError          a task, variant or setting is unknown, or a value is impossible; also a ValueError
    +-- StageError            a stage of compression does not fit the model
    +-- LoweringError         a layer cannot be expressed in the requested form or precision
    +-- CalibrationError      data given for calibration or verification does not fit the model
    +-- ConversionError       the native converter refused the model, crashed or ran too long
    +-- VerificationError     the exported file does not answer as the Keras model does
    +-- OutputError           a result cannot be written
    +-- ModelRunError         a runtime refused the file, crashed or ran too long
    +-- TargetError           a target cannot be reached, or lacks what is needed there

Every message is one or two sentences: what was wrong, where, and what to do next.
"""

from __future__ import annotations


class EdgeLSTMError(Exception):
    """Base of every error that edgelstm raises about the job itself, not about wrong code."""


class MissingExtraError(EdgeLSTMError, ImportError):
    """An optional dependency is not installed; the message names the pip command that brings it."""


class LoadError(EdgeLSTMError):
    """A model file cannot be read, or reading it would run code."""


class DataError(EdgeLSTMError):
    """Data to train with cannot be read, or nothing can be learnt from it."""


class SettingError(EdgeLSTMError, ValueError):
    """A task, a variant or a setting is unknown, or its value is impossible: what was asked for must be changed."""


class StageError(EdgeLSTMError):
    """A stage of compression does not fit the model, or nothing would be left of it."""


class LoweringError(EdgeLSTMError):
    """A layer cannot be expressed in the requested form or precision."""


class CalibrationError(EdgeLSTMError):
    """Data given for calibration or verification does not fit the model."""


class ConversionError(EdgeLSTMError):
    """The native converter refused the model, crashed, or ran too long."""


class VerificationError(EdgeLSTMError):
    """The exported file does not answer as the Keras model does."""


class OutputError(EdgeLSTMError):
    """A result cannot be written where it was asked for."""


class ModelRunError(EdgeLSTMError):
    """A runtime refused the file, crashed, or ran too long."""


class TargetError(EdgeLSTMError):
    """A target cannot be reached, was lost, or lacks what is needed there."""
