"""One module per workflow step, over the ports."""
