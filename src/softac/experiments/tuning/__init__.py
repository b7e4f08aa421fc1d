"""A search for hyperparameters: what it looks through, its trials, and what comes of them."""
