"""Mutation check: small breaks of the rules that keep the user's money, each of which a test has to notice."""
