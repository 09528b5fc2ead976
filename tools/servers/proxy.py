# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy on loopback that can fall silent: the link that is up and carries nothing."""

import selectors
import socket
import threading

from .server import HOST

CHUNK = 65536


class Proxy:
    """Forwards connections to `port` of loopback from a port of its own, `self.port`.

    silence() keeps every connection, old and new, and drops what is sent over it; carry() lets new ones
    through again: those that were silenced stay silent for ever, like a peer that was switched off.
    """

    def __init__(self, port):
        self._target = port
        self._silent = False
        self._ends = False
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._peer = {}  # socket to the one that gets its bytes
        self._mute = set()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends = True
        self._wake.send(b"x")
        self._thread.join()
        for connection in [*self._peer, self._listener, self._wake, self._woken]:
            connection.close()

    def silence(self):
        with self._lock:
            self._silent = True
            self._mute.update(self._peer)

    def carry(self):
        with self._lock:
            self._silent = False

    def connections(self):
        with self._lock:
            return len(self._peer) // 2

    def _run(self):
        while not self._ends:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._peer:
                    self._forward(key.fileobj)

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection((HOST, self._target), timeout=5)
        except OSError:
            client.close()
            return
        with self._lock:
            self._peer[client], self._peer[server] = server, client
            if self._silent:
                self._mute.update((client, server))
        for connection in (client, server):
            self._selector.register(connection, selectors.EVENT_READ)

    def _forward(self, source):
        try:
            data = source.recv(CHUNK)
        except OSError:
            data = b""
        with self._lock:
            is_mute = source in self._mute
        if is_mute:
            if not data:
                self._selector.unregister(source)  # its end does not show on the other side
            return
        try:
            if data:
                self._peer[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(source)

    def _close(self, source):
        with self._lock:
            other = self._peer.pop(source)
            self._peer.pop(other, None)
        for connection in (source, other):
            try:
                self._selector.unregister(connection)
            except KeyError:
                pass
            connection.close()
