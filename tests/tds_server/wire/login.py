"""Begin a session: negotiate encryption, read the login and answer it."""

import ssl
from dataclasses import dataclass

from pysqlbridge.tds import (
    DEFAULT_PACKET_SIZE,
    Encryption,
    Login7,
    Prelogin,
    TlsTunnel,
    Version,
    login_response,
    server_response,
)
from pysqlbridge.tds.login import deobfuscate_password

from tests.tds_server.wire import tokens
from tests.tds_server.wire.transport import ANSWER, LOGIN, PRELOGIN, Transport

VERSION = Version(major=16, minor=0, build=4165, subbuild=4)  # SQL Server 2022
USER, PASSWORD = "sa", "Passw0rd!"


@dataclass(frozen=True)
class Login:
    """A login. ``process`` is the client's process id."""

    user: str
    password: str
    program: str
    database: str
    packet_size: int
    process: int


def receive(transport: Transport, context: ssl.SSLContext, encrypts_login: bool) -> Login:
    """Answer the prelogin, do the TLS handshake and read the login. Raises ConnectionError for any other message.

    Without encryption the rest of the session is in plain text, and so is the login unless ``encrypts_login``.
    """
    message = transport.read()
    if message.type != PRELOGIN:
        raise ConnectionError("the client did not begin with a prelogin")
    prelogin = Prelogin.parse(message.payload)
    encrypted = prelogin.encryption in (Encryption.ON, Encryption.REQUIRED)
    agreed = Encryption.ON if encrypted else Encryption.OFF if encrypts_login else Encryption.NOT_SUPPORTED
    transport.write(ANSWER, server_response(version=VERSION, encryption=agreed, asked=prelogin).build())
    if agreed is not Encryption.NOT_SUPPORTED:
        tunnel = TlsTunnel(context)
        while not tunnel.handshake_complete:
            if records := tunnel.advance_handshake(transport.read().payload):
                transport.write(PRELOGIN, records)
        transport.enter(tunnel)
    message = transport.read()
    if message.type != LOGIN:
        raise ConnectionError("the client did not log in after the handshake")
    if agreed is Encryption.OFF:
        transport.leave_tunnel()
    login = Login7.parse(message.payload)
    password = deobfuscate_password(login.password)
    return Login(
        user=login.user_name,
        password=password,
        program=login.app_name,
        database=login.database,
        packet_size=login.packet_size or DEFAULT_PACKET_SIZE,
        process=login.client_pid,
    )


def accept(transport: Transport, database: str, packet_size: int) -> None:
    """Tell the client that the login succeeded."""
    version = (VERSION.major, VERSION.minor, VERSION.build)
    transport.write(
        ANSWER, login_response(version=version, server_name="testserver", database=database, packet_size=packet_size)
    )
    transport.packet_size = packet_size


def refuse(transport: Transport, number: int, message: str) -> None:
    """Tell the client why the login failed."""
    transport.write(ANSWER, tokens.error(number, message, severity=14) + tokens.done(tokens.DONE, tokens.ERROR))
