"""Compression: stages one after the other on a trained model, under a guard, with a report of each."""
