"""`softac watch`."""
