"""What must be found in the image: the content of expected.json."""

import hashlib
import json
import re

import planted
from recipe import source

MODULE = "app/node_modules/@acme/seal/build/Release/seal.node"
SETTINGS = "app/config/production.json"


def listing(layers, config):
    """The list as JSON, a finding a line. `layers` are the files of each layer by path."""
    pem, key = addon_secrets()
    url = f"postgres://seal_app:{planted.POSTGRES}@db.internal.example:5432"
    rows = [
        in_file(layers, "github.personal-access-token", "critical", "app/.env", 2, ("deleted", 3), planted.GITHUB,
                "copied by name from a developer's directory; the next instruction removes the file, not the layer"),
        in_file(layers, "database.postgres-url", "high", "app/.env", 2, ("deleted", 3), url,
                "in the same file: a database URL with its password; the evidence ends before the database's name"),
        in_file(layers, "stripe.live-secret-key", "critical", SETTINGS, 4, ("overwritten", 7), planted.STRIPE_FIRST,
                "rotated by overwriting the file; the first key can still be pulled"),
        in_file(layers, "slack.bot-token", "high", "app/tmp/ci/debug.log", 4, ("deleted", 5), planted.SLACK,
                "in the log of a CI run; its directory was removed and made anew, which is an opaque directory"),
        in_file(layers, "private-key.pem", "high", MODULE, 6, ("present", None), pem,
                "the partner's EC P-256 key, a string constant of a compiled Node.js module")
        | in_addon("partner_signing_key"),
        in_file(layers, "cipher.constant-in-binary", "high", MODULE, 6, ("present", None), key,
                "AES-256-GCM key, a constant of the same module, passed to EVP_EncryptInit_ex")
        | in_addon("seal_key"),
        in_file(layers, "stripe.live-secret-key", "critical", SETTINGS, 7, ("present", None), planted.STRIPE_ROTATED,
                "the rotated key, in the final image"),
        in_config("npm.access-token", "critical", f"history[{step_of(config, planted.NPM)}].created_by",
                  "build argument, in no file; the same text is the created_by of layer 6")
        | {"evidence": evidence(planted.NPM.encode(), None)},
        in_config("config.port.node-inspector", "high", "ExposedPorts.9229/tcp",
                  "the port of the inspector, exposed in the image that holds the keys"),
        in_config("chain.key-and-debug-port", "critical", None, "the partner's key and that port together"),
        in_config("chain.key-and-tls-port", "high", None, "the partner's key and port 8443 together"),
    ]
    return ("[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n").encode()


def in_file(layers, rule, severity, path, layer, ended, secret, note):
    state, ended_by = ended
    secret = secret if isinstance(secret, bytes) else secret.encode()
    data = layers[layer][path]
    if data.count(secret) != 1:
        raise SystemExit(f"{path} of layer {layer} does not hold its {rule} exactly once")
    return {
        "rule": rule, "path": path, "config": None, "layer": layer, "state": state, "ended_by": ended_by,
        "severity": severity, "note": note, "evidence": evidence(secret, data.index(secret)),
    }


def in_config(rule, severity, where, note):
    return {
        "rule": rule, "path": None, "config": where, "layer": None, "state": "present", "ended_by": None,
        "severity": severity, "note": note,
    }


def in_addon(symbol):
    return {
        "binary": {"format": "elf", "section": ".rodata", "symbol": symbol, "node_addon": True},
        "package": {"ecosystem": "npm", "name": "@acme/seal", "version": "2.3.1"},
    }


def evidence(secret, offset):
    """Where exactly in the file, and which bytes."""
    return {"offset": offset, "length": len(secret), "sha256": hashlib.sha256(secret).hexdigest()}


def step_of(config, secret):
    """The only step of the history that names `secret`."""
    [step] = [at for at, entry in enumerate(config["history"]) if secret in entry["created_by"]]
    return step


def addon_secrets():
    """The PEM key as it stands in the module (without its last line end), and the 32 bytes of the AES key."""
    text = source("seal/seal.c").decode()
    key = re.search(r"seal_key\[32\] = \{(.*?)\}", text, re.DOTALL).group(1)
    pem = re.search(r"partner_signing_key\[\] =(.*?);", text, re.DOTALL).group(1)
    lines = re.findall(r'"(.*)\\n"', pem)
    return "\n".join(lines), bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", key))
