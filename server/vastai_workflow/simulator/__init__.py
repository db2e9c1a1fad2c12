"""The market on this machine: the provider's API with a seeded market behind it."""
