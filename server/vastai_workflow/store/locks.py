"""One renter per account: a lock that dies with its process, waited for on the store's clock."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from vastai_workflow.domain.errors import Refusal
from vastai_workflow.steps.ports import Clock
from vastai_workflow.store.folder import private_folder, unusable

Release = Callable[[], None]
TakeLock = Callable[[int], Release | None]
"""Tries once to take an account's lock; None while somebody else has it."""

_RETRY_S: Final = 0.1


@asynccontextmanager
async def one_renter(take: TakeLock, account_id: int, *, clock: Clock, wait_s: float) -> AsyncGenerator[None]:
    """Holds an account's lock; Refusal `account_busy` after `wait_s` seconds of the clock's sleep."""
    waited = 0.0
    while (release := take(account_id)) is None:
        pause = min(_RETRY_S, wait_s - waited)
        if pause <= 0:
            raise Refusal(
                "account_busy",
                f"another process or call has been renting for account {account_id} for {wait_s:g} s",
            )
        await clock.sleep(pause)
        waited += pause
    try:
        yield
    finally:
        release()


def locks_in(folder: Path) -> TakeLock:
    """Locks as files in the state folder: for all processes of this machine; the system frees a dead one's."""

    def take(account_id: int) -> Release | None:
        from filelock import FileLock, Timeout  # noqa: PLC0415  # a store in memory needs no locks on files

        path = folder / f"account-{account_id:d}.lock"
        # a lock of its own each time: one shared by two tasks would count up instead of refusing the second
        lock = FileLock(path, mode=0o600, thread_local=False)
        private_folder(folder)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        except OSError as error:
            raise unusable(path, error) from error
        return lock.release

    return take


def locks_of_this_store() -> TakeLock:
    """Locks in memory, as long as a store in memory."""
    held: set[int] = set()

    def take(account_id: int) -> Release | None:
        if account_id in held:
            return None
        held.add(account_id)
        return lambda: held.remove(account_id)

    return take
