"""Hidden units of a model: which of its weights belong to each, what each is worth, and the model without some."""
