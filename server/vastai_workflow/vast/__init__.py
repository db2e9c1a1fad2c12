"""The Vast.ai API over httpx."""
