"""Time series: read, written from a seed, cut into windows."""
