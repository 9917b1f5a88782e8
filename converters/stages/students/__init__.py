"""Students of distillation: how they are made, what they learn from, and what their loss is."""
