"""Secrets in addresses: refused in input, masked in all output.

Addresses end up in manifests, image records, keys, logs and Prefect's database, which more people
can read than may know a password. So an address with a password is refused; credentials come from
the environment.
"""

from __future__ import annotations

import re

from storage.errors.exceptions import ConfigError

# `ftp://user:password@host`. The last @ before the path ends it: passwords hold some, too.
_USER = re.compile(r"\b([a-z][a-z0-9+.\-]*://)([^/?#\s\"'<>]*)@", re.IGNORECASE)
# `s3://KEY:SECRET@bucket`, whose secret may hold slashes. A bucket's ARN has colons as well.
_BUCKET_USER = re.compile(r"\b((?:s3a?|gs|gcs)://)(?!arn:)([^/?#\s@:]+:[^\s@]+)@", re.IGNORECASE)
# What signs an address or is a key: of AWS, Google, Azure, and the usual names.
_QUERY = re.compile(
    r"([?&;](?:x-amz-(?:signature|security-token)|x-goog-signature|signature|sig|"
    r"(?:access[_-]?|auth[_-]?)?token|api[_-]?key|password|passwd|secret)=)([^&#\s\"'<>]+)",
    re.IGNORECASE,
)
_MASK = "***"


def masked(text: str) -> str:
    """`text` with the secrets of all addresses in it replaced by ***."""
    if "://" not in text:
        return text
    text = _BUCKET_USER.sub(rf"\1{_MASK}@", text)
    text = _USER.sub(lambda match: f"{match[1]}{_MASK}@" if _is_secret(match) else match[0], text)
    return _QUERY.sub(rf"\1{_MASK}", text)


def has_password(uri: str) -> bool:
    """Whether there is a password before the address's host or bucket.

    On web servers a name alone counts too: tokens are written so. Elsewhere it is a part of the
    address (`abfs://container@account…`).
    """
    if "@" not in uri or "://" not in uri:
        return False
    return bool(_BUCKET_USER.search(uri)) or any(map(_is_secret, _USER.finditer(uri)))


def refuse_password(uri: str) -> None:
    """Raise ConfigError, without the password, if the address carries one."""
    if has_password(uri):
        raise ConfigError(
            f"The address {masked(uri)} carries a password, which would be written where others "
            "can read it: leave it out, and give it in the environment (for s3:// "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for others FSSPEC_PROTOCOL_USERNAME "
            "and FSSPEC_PROTOCOL_PASSWORD, with the protocol's name for PROTOCOL)."
        )


def refuse_secrets(uri: str) -> None:
    """Raise ConfigError, without the secret, if the address carries a password or is signed.

    For what a user names; an address in a table may be signed, since there is no other way to it.
    """
    refuse_password(uri)
    if "://" in uri and _QUERY.search(uri):
        raise ConfigError(
            f"The address {masked(uri)} is signed, and would be written where others can read it: "
            "name the place by its storage's own protocol (s3://, gs://, abfs://), with "
            "credentials in the environment."
        )


def _is_secret(match: re.Match[str]) -> bool:
    _, colon, password = match[2].partition(":")
    return bool(colon and password) or (
        match[1].lower() in ("http://", "https://") and match[2] != ""
    )
