"""The made-up secrets of the image: the right shape and the right checksum, and no service has ever issued them.

They are derived from labels, so that this directory holds no token that someone could take for a leaked one.
"""

import hashlib
import string
import zlib

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
LOWER_AND_DIGITS = string.digits + string.ascii_lowercase


def characters(label, count, alphabet=BASE62):
    """`count` characters that look random and are always the same for one label."""
    out, block = "", 0
    while len(out) < count:
        for byte in hashlib.sha256(f"layersift testdata: {label} {block}".encode()).digest():
            if byte < 256 - 256 % len(alphabet):
                out += alphabet[byte % len(alphabet)]
        block += 1
    return out[:count]


def with_checksum(prefix, label):
    """A token as GitHub and npm make them: 30 characters, then their CRC-32 in six base62 digits."""
    body = characters(label, 30)
    rest, checksum = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        checksum = BASE62[digit] + checksum
    return prefix + body + checksum


GITHUB = with_checksum("ghp_", "github")
NPM = with_checksum("npm_", "npm")
POSTGRES = characters("postgres", 22)
STRIPE_FIRST = "sk_live_" + characters("stripe, first", 24)
STRIPE_ROTATED = "sk_live_" + characters("stripe, rotated", 24)
SLACK = "-".join([
    "xoxb",
    "2" + characters("slack, team", 11, string.digits),
    "4" + characters("slack, bot", 12, string.digits),
    characters("slack, secret", 24),
])
