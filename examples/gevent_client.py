"""Fetch a page through a tunnel, with gevent: gevent_client.py INVITATION-OR-FILE HOST:PORT"""

import sys
from pathlib import Path

from kcpg.api.gevent import Tunnel

config, target = sys.argv[1:]
with (
    Tunnel.connect(config if config.startswith("kcpg://") else Path(config)) as tunnel,
    tunnel.open_stream(target) as stream,
):
    stream.sendall(f"GET / HTTP/1.0\r\nHost: {target}\r\n\r\n".encode())
    while data := stream.recv(65536):
        sys.stdout.write(data.decode())
