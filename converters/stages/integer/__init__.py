"""Integer LSTMs simulated: in exact integers, and differentiably for training."""
