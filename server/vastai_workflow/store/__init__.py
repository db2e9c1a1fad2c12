"""Workflows and the ledger, kept."""
