"""Runs exported models: in this process (`model`), or in a worker process of their own (`child`).

Light on purpose: needs numpy and one TFLite runtime, never TensorFlow.
"""
