"""The equations: tensors in, tensors out. No networks, no environments, no state."""
