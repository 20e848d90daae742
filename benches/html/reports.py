"""Reports that the page is looked at with: one with all fields, hostile text in every field, and a large one."""

import copy
import hashlib

RULES = [
    ("acme.api-key", "Acme API key", "critical", True), ("private-key.pem", "Private key", "high", True),
    ("database.url", "Database address with password", "high", True), ("generic.token", "Token", "medium", True),
    ("source.dotenv", "Environment file", "low", False), ("source.source-map", "Source map", "low", False),
    ("config.user", "Runs as root", "info", False),
]

HOSTILE = ["</script><script>alert(1)</script>", "<!--", "]]>", "<img src=x onerror=alert(1)>", "\" onload=\"alert(1)",
           "'><svg/onload=alert(1)>", "javascript:alert(1)", "&lt;b&gt;", "\x00\x1b[31m", "invoice\u202egnp.exe",
           "\u2066\u2067\u2069 \u200f", "a\u200bb\ufeffc\u2028d", "x" * 6000, "🧨👩‍👩‍👧",
           "Z̵̡̢̛̗̘̙̜̝̞̟̠͇̊̋̌̍̎̏̿̿̿̚", "שלום/עולם", "日本語"]


def digest(text):
    return "sha256:" + hashlib.sha256(str(text).encode()).hexdigest()


def rule(id, title, severity):
    return {"id": id, "title": title, "severity": severity, "confidence": "high",
            "what": f"{title}: what it is, in a sentence of an ordinary length.",
            "risk": "What somebody who pulls the image can do with it, which takes a sentence to tell, as here.",
            "fix": "Revoke it, pass a new one at run time, rebuild the image from the layer that brought it.",
            "references": [f"https://docs.example/{id}"]}


def layer(index, instruction="RUN make install PREFIX=/opt/app # buildkit", **fields):
    return {"index": index, "digest": digest(f"layer {index}"), "diff_id": digest(f"diff {index}"),
            "media_type": "application/vnd.oci.image.layer.v1.tar+gzip", "created_by": f"{instruction}", "files": 120,
            "bytes": 7 << 20, "entries": 160, "stored_bytes": (index % 5 + 1) << 20, "removes": [], **fields}


def reference(layers, index):
    return {key: layers[index][key] for key in ("index", "digest", "diff_id", "created_by")}


def finding(number, layers, path, from_layer, to=None, state="present", which=None, secret=True):
    id, title, severity, _ = which
    found = {"id": digest(number)[7:23], "rule": id, "title": title, "severity": severity, "confidence": "high",
             "path": path, "inside": [], "views": [], "offset": 17 if secret else None, "line": 3 if secret else None,
             "column": 5 if secret else None, "config": None, "layer": reference(layers, from_layer), "state": state,
             "ended_by": None if to is None else reference(layers, to), "secret": None, "package": None,
             "as_shipped": False, "binary": None, "note": None, "related": []}
    if secret:
        fingerprint = digest(f"s{number}")[7:39]
        found["secret"] = {"masked": f"acme_****{number % 100:02}", "fingerprint": fingerprint, "length": 40}
    return found


def report(layers, findings, rules, **fields):
    tool = {"name": "layersift", "version": "0.1.0", "ruleset": digest("rules"), "engine": "5.4.9",
            "reader_revision": 4, "fingerprint_key": "17e555c57cd4cff2"}
    return {"schema": 1, "tool": tool,
            "scanned_at": "2026-11-29T12:00:00Z", "target": "registry.example/team/app:1.0",
            "image": {"reference": "registry.example/team/app:1.0", "manifest_digest": digest("m"),
                      "config_digest": digest("c"), "platform": "linux/amd64"},
            "layers": layers, "rules": rules, "findings": findings, "gaps": [],
            "policy": {"fail_on": "high", "digest": None, "baseline": None}, "verdict": "fail",
            "stats": {"layers": len(layers), "files": 1, "bytes": 1, "seconds": 1.5}, **fields}


def large(count):
    """`count` findings, half of them secrets of their own, in 60 layers."""
    layers = [layer(index) for index in range(60)]
    findings = []
    for number in range(count):
        which = RULES[number % 6]
        start = number * 7 % 57 + 1
        state = ("present", "present", "deleted", "overwritten")[number % 4]
        to = None if state == "present" else start + 1 + number % 2
        path = f"srv/app/node_modules/package-{number % 311}/dist/esm/part{number % 9}/file{number}.js"
        found = finding(number, layers, path, start, to, state, which, which[3])
        found["package"] = {"ecosystem": "npm", "name": f"package-{number % 311}", "version": "1.2.3"}
        findings.append(found)
    return report(layers, findings, [rule(*which[:3]) for which in RULES])


def full(incident):
    """The incident with a base, steps, an exception, the baseline, gaps and other platforms."""
    full = copy.deepcopy(incident)
    full["image"]["base"] = {"reference": "docker.io/library/node:22-slim", "digest": digest("base"), "layers": 2,
                             "evidence": "provenance"}
    full["image"]["other_platforms"] = ["linux/arm64", "linux/s390x"]
    full["image"]["notes"] = ["the index names two manifests for linux/amd64; the first was read"]
    for index, one in enumerate(full["layers"]):
        one["origin"] = "base" if index < 2 else "own"
        if index >= 2:
            one["step"] = {"file": "deploy/Dockerfile", "line": 3 + 2 * index, "end_line": 4 + 2 * index,
                           "stage": "app", "base": "node:22-slim", "evidence": "provenance"}
    for found in full["findings"]:
        if found.get("layer"):
            found["origin"] = full["layers"][found["layer"]["index"]]["origin"]
            if "step" in full["layers"][found["layer"]["index"]]:
                found["step"] = full["layers"][found["layer"]["index"]]["step"]
    full["findings"][0]["baseline"] = True
    full["findings"][2]["allowed"] = {"reason": "A database of the test environment, closed in December.",
                                      "expires": "2026-12-31"}
    full["expired"] = [{"entry": 2, "reason": "the old bot", "expires": "2026-06-30"}]
    full["gaps"] = [{"reason": "encrypted-member", "path": "app/backup.zip ▸ keys.txt", "layer": 4, "bytes": 1200,
                     "detail": "the member is encrypted"},
                    {"reason": "damaged-archive", "path": "app/old.tar.gz", "layer": 6, "bytes": None,
                     "detail": "unexpected end of file"}]
    return full


def hostile():
    """Hostile text in every field that holds text."""
    def fill(value, text):
        if isinstance(value, dict):
            kept = {"state", "severity", "confidence", "digest", "diff_id", "manifest_digest", "config_digest",
                    "scanned_at", "verdict", "fail_on", "reason", "fingerprint_key", "evidence", "origin", "expires", "id", "rule"}
            return {key: one if key in kept else fill(one, text) for key, one in value.items()}
        if isinstance(value, list):
            return [fill(one, text) for one in value]
        return text if isinstance(value, str) else value
    reports = []
    for text in HOSTILE:
        layers = [layer(index) for index in range(3)]
        findings = [finding(number, layers, "a", number % 3, which=RULES[number % 4]) for number in range(4)]
        findings[0]["inside"], findings[0]["views"], findings[0]["note"] = ["x"], ["base64"], "x"
        findings[0]["package"] = {"ecosystem": "npm", "name": "x", "version": "x"}
        findings[1]["binary"] = {"format": "elf", "section": "x", "symbol": "x", "node_addon": True}
        findings[2].update(path=None, layer=None, config="Env[0]")
        findings[3].update(path=None, layer=None, document={"kind": "provenance", "digest": None, "media_type": "x",
                                                            "json_path": "x"})
        filled = fill(report(layers, findings, [rule(*which[:3]) for which in RULES]), text)
        filled["gaps"] = [{"reason": "damaged-tar", "path": text, "layer": 0, "bytes": 1, "detail": text}]
        reports.append(filled)
    return {"schema": 1, "reports": reports}
