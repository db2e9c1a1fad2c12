"""Figures of one run: tokens, and ratios to something small beside it. Run as `python -m bench.NAME`."""
