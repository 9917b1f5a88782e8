"""Pictures drawn pixel after pixel."""
