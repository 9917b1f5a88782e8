"""Recorded and synthesized words, and their log-mel features."""
