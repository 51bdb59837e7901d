"""Names, options and caps of `livecfg.hub.v1` that both sides share; imports no grpc."""

from __future__ import annotations

from ipaddress import ip_address

SERVICE = "livecfg.hub.v1.Hub"
PROTOCOL = 1
INLINE_PACK_BYTES = 1 << 20
MESSAGE_BYTES = 4 << 20
OBJECTS_BYTES = 64 << 20
HEARTBEAT_S = 15.0

CLIENT_OPTIONS = [
    # Each channel its own connections: with the shared pool 8 of 60 forked children failed.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 5_000),  # finds a half-open connection in about 15 s instead of 70
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.enable_retries", 0),
]
SERVER_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # else idle healthy streams are cut: "too many pings"
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # What hosts send is small, so its window need not grow; measuring for that cost a ping for each message they send.
    ("grpc.http2.bdp_probe", 0),
]


def is_loopback(address: str) -> bool:
    """Tell whether `host:port` never leaves this machine."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
