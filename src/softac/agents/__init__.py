"""The agents: one flat file each, with its configuration. None inherits from another."""
