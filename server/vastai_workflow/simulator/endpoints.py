"""Every route of the simulated provider, and the operations by which faults and counters name them."""

from vastai_workflow.simulator.exchange import Endpoint
from vastai_workflow.simulator.routes import account, bills, changing, keys, logs, offers, reading, storage

ENDPOINTS: tuple[Endpoint, ...] = (
    *offers.ENDPOINTS,
    *reading.ENDPOINTS,
    *changing.ENDPOINTS,
    *keys.ENDPOINTS,
    *logs.ENDPOINTS,
    *account.ENDPOINTS,
    *bills.ENDPOINTS,
    *storage.ENDPOINTS,
)
OPERATIONS = frozenset(name for one in ENDPOINTS for name in one.operations)
"""The names of all operations."""
