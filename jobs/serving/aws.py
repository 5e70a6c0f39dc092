"""Clients of AWS's services, or of what speaks like them at another address."""

from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_local(url: str | None) -> bool:
    """Whether a server on this machine is meant; None is AWS itself."""
    return url is not None and urlsplit(url).hostname in LOOPBACK


def keys(url: str | None) -> dict[str, str]:
    """A made-up key is good for a server that checks none, and must never be sent anywhere else."""
    return {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if is_local(url) else {}
