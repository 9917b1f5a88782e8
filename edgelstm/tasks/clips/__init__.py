"""Short clips, and the features of their frames."""
