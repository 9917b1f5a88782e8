"""Texts: where they come from, what they are encoded as, and what reads them."""
