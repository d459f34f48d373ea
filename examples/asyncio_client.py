"""Fetch a page through a tunnel, with asyncio: asyncio_client.py INVITATION-OR-FILE HOST:PORT"""

import asyncio
import sys
from pathlib import Path

from kcpg.api import Tunnel


async def main(config: str, target: str) -> None:
    async with Tunnel.connect(config if config.startswith("kcpg://") else Path(config)) as tunnel:
        reader, writer = await tunnel.open_stream(target)
        writer.write(f"GET / HTTP/1.0\r\nHost: {target}\r\n\r\n".encode())
        await writer.drain()
        sys.stdout.write((await reader.read()).decode())
        writer.close()


asyncio.run(main(*sys.argv[1:]))
