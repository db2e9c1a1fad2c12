"""The endpoints of the simulated API, one module per group."""
