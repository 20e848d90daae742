#!/usr/bin/env python3
"""Makes the files in this directory: make.py RECORDINGS

RECORDINGS is a directory with what cosign 2.6.5 and 3.1.3 wrote and accepted, recorded with test keys that were made for
that. `signatures.json` is made anew with openssl, with new keys.
"""

import base64
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
PASSWORD = "layersift-test"
SUBJECT = "c4fa4b81870ac5d9d36300085667fa10061930a56dcdd4c2da30320cfe612d08"


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=0, sort_keys=True) + "\n")


def table(source):
    """The rows of the table of hand-made attestations, and who refused each on which registry."""
    lines = []
    for row in json.loads((source / "handmade/table.json").read_text()):
        said = []
        for registry in ("dreg", "oreg"):
            results = row["results"].get(registry, {})
            for tool in ("v2 --trusted-root", "v3"):
                said.append({None: "-", 0: "ok"}.get(results.get(tool, {}).get("rc"), "refused"))
        lines.append("\t".join([row["group"], row["field"], row["value"], *said]))
    (HERE / "table.tsv").write_text("\n".join(lines) + "\n")


def dump(path):
    """What a registry had, without what can be derived."""
    full = json.loads(path.read_text())
    referrers = full.get("referrers", {})
    return {
        "manifests": {
            name: [manifest.get("content_type", ""), manifest["exact_bytes"]]
            for name, manifest in full["manifests"].items()
            if manifest.get("exact_bytes")
        },
        "blobs": {digest: blob["exact_bytes"] for digest, blob in full["blobs"].items() if blob.get("exact_bytes")},
        "referrers": {
            digest: answer["body"]["manifests"] or []
            for digest, answer in referrers.items()
            if answer["status"] == 200
        },
    }


def signatures():
    """Signatures by openssl over the same message, in every way that somebody may sign in."""
    statement = json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": SUBJECT}}],
            "predicateType": "https://layersift.example/report/v1",
            "predicate": {},
        }
    )
    message = f"DSSEv1 28 application/vnd.in-toto+json {len(statement)} {statement}"
    kinds = {
        "p256": ["EC", "ec_paramgen_curve:P-256"],
        "p384": ["EC", "ec_paramgen_curve:P-384"],
        "p521": ["EC", "ec_paramgen_curve:P-521"],
        "rsa2048": ["RSA", "rsa_keygen_bits:2048"],
        "rsa3072": ["RSA", "rsa_keygen_bits:3072"],
        "rsa4096": ["RSA", "rsa_keygen_bits:4096"],
        "ed25519": ["ED25519", None],
    }
    made = {"message": message, "statement": statement, "keys": {}}
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "message").write_text(message)
        for name, (algorithm, option) in kinds.items():
            key, public = work / f"{name}.pem", work / f"{name}.pub"
            options = ["-pkeyopt", option] if option else []
            run("openssl", "genpkey", "-algorithm", algorithm, *options, "-out", key)
            run("openssl", "pkey", "-in", key, "-pubout", "-out", public)
            made["keys"][name] = {"public": public.read_text(), "signatures": {}}
            if name in ("p256", "rsa2048", "ed25519"):
                made["keys"][name]["private"] = key.read_text()
            if name == "p256":
                made["keys"][name]["sec1"] = run("openssl", "ec", "-in", key).decode()
            if name == "rsa2048":
                made["keys"][name]["pkcs1"] = run("openssl", "rsa", "-traditional", "-in", key).decode()
            for hashing in ("sha256", "sha384", "sha512") if algorithm != "ED25519" else ("pure",):
                for pss in (False, True) if algorithm == "RSA" else (False,):
                    if algorithm == "ED25519":
                        call = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", work / "message"]
                    else:
                        padding = ["-sigopt", "rsa_padding_mode:pss"] if pss else []
                        call = ["openssl", "dgst", f"-{hashing}", *padding, "-sign", key, work / "message"]
                    way = hashing + ("-pss" if pss else "")
                    made["keys"][name]["signatures"][way] = base64.b64encode(run(*call)).decode()
    return made


def run(*call):
    return subprocess.run([str(part) for part in call], check=True, capture_output=True).stdout


def main():
    source = pathlib.Path(sys.argv[1])
    table(source)
    written = sorted((source / "written").glob("v*.json"))
    write("written.json", {path.stem: dump(path) for path in written})
    stamped = [*(source / "timestamp").glob("v*-dreg.json"), *(source / "timestamp").glob("timestamp-server-v*.json")]
    write("timestamped.json", {path.stem: dump(path) for path in sorted(stamped)})
    for name in ("recommended-bundle", "recommended-legacy"):
        full = json.loads((source / f"handmade/{name}.json").read_text())
        full.pop("pae_hex", None)
        write(f"{name}.json", full)
    keys = {path.name.removeprefix("test-only-"): path.read_text() for path in (source / "keys").glob("test-only-*")}
    keys.update({path.name: path.read_text() for path in (source / "timestamp").glob("*.pem")})
    write("keys.json", {"password": PASSWORD, **keys})
    envelopes = json.loads((source / "keys/ed25519-written-by-cosign.json").read_text())
    write("ed25519ph.json", [{name: row[name] for name in ("form", "writer", "envelope")} for row in envelopes])
    write("signatures.json", signatures())


main()
