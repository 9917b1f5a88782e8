"""From Keras models to TFLite files: loading, lowering, exporters, calibration, verification."""
