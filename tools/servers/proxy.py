# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy on loopback that can cut, slow down, silence or refuse what it carries."""

import socket
import struct
import threading

from .server import HOST

CHUNK = 65536
SLICE_SECONDS = 0.05  # of a slow connection, sent at once


class Proxy:
    """Forwards connections to `port` of loopback from a port of its own, `self.port`.

    silence() keeps every connection, old and new, and drops what is sent over it; after carry() new ones
    get through again: those that were silenced stay silent for ever, like a peer that was switched off,
    until cut(). slow(), refuse() and cut_after() hold until carry() too, cut() is over at once.

    A thread accepts, and two carry each connection; the methods may be called from any thread.
    """

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs = set()
        self._is_silent = False
        self._refuses = False
        self._rate = None  # bytes a second
        self._bytes_left = None  # until the connection that carries them is cut
        self._changed = threading.Event()  # wakes those that send slowly
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.carry()
        self.cut()

    def silence(self):
        with self._lock:
            self._is_silent = True
            for pair in self._pairs:
                pair.is_mute = True

    def refuse(self):
        """New connections are reset at once."""
        with self._lock:
            self._refuses = True

    def slow(self, bytes_per_second):
        """Of each connection, in each direction."""
        with self._lock:
            self._rate = bytes_per_second

    def cut_after(self, count):
        """The connection over which the last of the next `count` bytes goes ends right behind it."""
        with self._lock:
            self._bytes_left = count

    def cut_is_pending(self):
        with self._lock:
            return self._bytes_left is not None

    def cut(self):
        """Ends every connection, silent ones too."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.end()

    def carry(self):
        with self._lock:
            self._is_silent = self._refuses = False
            self._rate = self._bytes_left = None
        self._changed.set()

    def connections(self):
        with self._lock:
            return len(self._pairs)

    def _run(self):
        while not self._ends:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            try:
                server = socket.create_connection((HOST, self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._begin(_Pair(client, server))

    def _begin(self, pair):
        for connection in pair.sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            pair.is_mute = self._is_silent
            self._pairs.add(pair)
        client, server = pair.sockets
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._carry, args=(pair, *ends), daemon=True).start()

    def _carry(self, pair, source, target):
        try:
            while data := source.recv(CHUNK):
                if pair.is_mute:
                    continue
                data, is_cut = self._until_cut(data)
                self._send(target, data)
                if is_cut:
                    break
        except OSError:
            pass
        if pair.is_mute:
            pair.ended.wait()  # its end does not show on the other side
        pair.end()
        if pair.leave():
            with self._lock:
                self._pairs.discard(pair)

    def _until_cut(self, data):
        with self._lock:
            if self._bytes_left is None:
                return data, False
            if self._bytes_left > len(data):
                self._bytes_left -= len(data)
                return data, False
            count, self._bytes_left = self._bytes_left, None
            return data[:count], True

    def _send(self, target, data):
        while data and (rate := self._rate) is not None:
            size = max(1, int(rate * SLICE_SECONDS))
            target.sendall(data[:size])
            data = data[size:]
            self._changed.clear()
            self._changed.wait(size / rate)
        target.sendall(data)


class _Pair:
    """A connection's two sockets, which are closed once both threads have left them."""

    def __init__(self, client, server):
        self.sockets = (client, server)
        self.is_mute = False
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._users = 2

    def end(self):
        with self._lock:
            self.ended.set()
            if self._users == 0:
                return
            for connection in self.sockets:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has ended

    def leave(self):
        """True for the last of both."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return False
            for connection in self.sockets:
                connection.close()
            return True
