"""Lowering: LSTM layers of a Keras model become fused operators of a TFLite file."""
