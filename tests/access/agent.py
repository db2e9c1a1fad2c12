"""A small working ssh-agent that holds one key."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh

FAILURE = 5
REQUEST_IDENTITIES, IDENTITIES_ANSWER = 11, 12
SIGN_REQUEST, SIGN_RESPONSE = 13, 14


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


async def read_string(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


def first_strings(data: bytes) -> tuple[bytes, bytes]:
    """The first two strings of a message: in a request to sign, the key and what to sign."""
    end = 4 + int.from_bytes(data[:4])
    return data[4:end], data[end + 4 : end + 4 + int.from_bytes(data[end : end + 4])]


@asynccontextmanager
async def agent_holding(key: asyncssh.SSHKey, path: Path) -> AsyncGenerator[list[bytes]]:
    """Serve on the socket `path`; yields the list of keys that were asked for a signature."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                message = await read_string(reader)
                if message[0] == REQUEST_IDENTITIES:
                    answer = bytes([IDENTITIES_ANSWER]) + (1).to_bytes(4) + string(key.public_data) + string(b"mine")
                else:
                    blob, data = first_strings(message[1:])
                    asked.append(blob)
                    answer = bytes([SIGN_RESPONSE]) + string(key.sign(data, key.sig_algorithms[0]))
                writer.write(string(answer))
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield asked


@asynccontextmanager
async def refusing_agent(key: asyncssh.SSHKey, path: Path) -> AsyncGenerator[None]:
    """Shows the key and signs nothing, as one that asks its user each time and hears no."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked_for_keys = (await read_string(reader))[0] == REQUEST_IDENTITIES
                keys = bytes([IDENTITIES_ANSWER]) + (1).to_bytes(4) + string(key.public_data) + string(b"mine")
                writer.write(string(keys if asked_for_keys else bytes([FAILURE])))
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


@asynccontextmanager
async def silent_agent(path: Path) -> AsyncGenerator[None]:
    """Takes requests and never answers."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(listen, path):
        yield
