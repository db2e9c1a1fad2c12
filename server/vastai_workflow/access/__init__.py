"""SSH: keys, host keys, probes."""
