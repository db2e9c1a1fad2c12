"""Rent GPUs on Vast.ai through an agent: once, at the agreed price, on record."""
