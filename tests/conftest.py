"""What all tests share: property tests draw the same examples each time, so that a change alone makes them fail."""

from hypothesis import settings

settings.register_profile("same each time", derandomize=True, database=None)
settings.load_profile("same each time")
