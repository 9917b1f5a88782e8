"""Images with classes, with questions, and as sequences."""
