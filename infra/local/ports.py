"""Is the port free that a local server is about to take, and if not, who has it?

Kafka only mentions a taken port in its log, after seconds; so we look first.
"""

import errno
import ipaddress
import socket

import psutil

from depesche.infra.local.fault import LocalFault


def require_loopback(host: str, what: str) -> None:
    """Raise LocalFault unless `host` is an address of this machine's loopback (IPv4 or IPv6) or `localhost`."""
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise LocalFault(
            f"{what} must not listen on {host}: it is meant for this machine only.",
            "Use 127.0.0.1, or run a server of your own and give its address in the settings.",
        )


def require_free(host: str, port: int, what: str) -> None:
    """Raise LocalFault when nobody could listen on `host:port` now; name the process that does where it can be seen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without this option a connection of an earlier run in TIME_WAIT would look like a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _fault(error, host, port, what) from error


def _fault(error: OSError, host: str, port: int, what: str) -> LocalFault:
    if error.errno == errno.EADDRINUSE:
        return LocalFault(
            f"Port {port} on {host}, which {what} needs, is taken by {_holder(port)}.",
            "Stop that process, or choose another port in the settings.",
        )
    return LocalFault(
        f"{what} cannot listen on {host}:{port}: {error.strerror}.",
        "Choose another port (1024 to 65535) in the settings.",
    )


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        # Some systems show the table of connections to root only.
        return "another process"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _name(connection.pid)
    return "another process"


def _name(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"
