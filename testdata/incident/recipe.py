"""The image: its layers, its history and its configuration."""

import hashlib
from datetime import datetime, timezone
from pathlib import Path

import planted
from archive import HARD_LINK, SYMLINK, Entry, compact, digest, directory, docker_save, tar

HERE = Path(__file__).resolve().parent
REPOSITORY, TAG = "registry.internal.example/payments/seal-service", "1.4.2"
CREATED = "2025-11-17T09:12:44Z"
BASE_CREATED = "2025-11-03T00:00:00Z"
NODE = 1000
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONG_NAME = "-".join([  # longer than the 100 bytes of a ustar name
    "2025-11-03T00-00-00Z", "-acme-base", "-report-on-changed-configuration-files", "-from-12.7-to-12.8",
    "-nothing-kept-local.txt",
])
LABELS = {
    "org.opencontainers.image.title": "seal-service",
    "org.opencontainers.image.version": TAG,
    "org.opencontainers.image.vendor": "Acme Payments",
    "org.opencontainers.image.source": "https://git.internal.example/payments/seal-service",
    "org.opencontainers.image.base.name": "registry.internal.example/base/node:20-bookworm",
}
PACKAGES = {
    "acme-base": ("12.8", "base files of the platform's images", [
        "etc/debian_version", "etc/profile", "usr/bin/acme-entrypoint", "usr/lib/os-release",
        "usr/share/doc/acme-base/copyright", f"usr/share/doc/acme-base/{LONG_NAME}",
    ]),
    "acme-login": ("1.0-3", "who am I, with the setuid bit", ["usr/bin/acme-su", "usr/share/doc/acme-login/copyright"]),
    "acme-net": ("6.4", "names of services and protocols", [
        "etc/protocols", "etc/services", "usr/share/doc/acme-net/copyright",
    ]),
}


def seconds(text):
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp())


def source(name, **placeholders):
    """A file of this directory, its `@NAME@` replaced."""
    text = (HERE / name).read_text(encoding="utf-8")
    for key, value in placeholders.items():
        text = text.replace(f"@{key}@", value)
    return text.encode()


def parents(paths):
    """The directories above `paths`, each once, sorted."""
    found = {path[:i] for path in paths for i, char in enumerate(path) if char == "/"}
    return [directory(path) for path in sorted(found)]


def base_layer():
    files = {}
    for version, _, names in PACKAGES.values():
        for name in names:
            files[name] = source("base/migration-report.txt" if name.endswith(LONG_NAME) else f"base/{name}")
    status = []
    for name, (version, description, owned) in PACKAGES.items():
        folders = [entry.name.rstrip("/") for entry in parents(owned)]
        listed = ["/."] + ["/" + path for path in sorted(folders + owned)]
        sums = [f"{hashlib.md5(files[path]).hexdigest()}  {path}\n" for path in owned if not path.startswith("etc/")]
        files[f"var/lib/dpkg/info/{name}.list"] = "".join(line + "\n" for line in listed).encode()
        files[f"var/lib/dpkg/info/{name}.md5sums"] = "".join(sums).encode()
        status.append(
            f"Package: {name}\nStatus: install ok installed\nPriority: required\nSection: admin\n"
            f"Maintainer: Acme Platform <platform@acme.example>\nArchitecture: all\nVersion: {version}\n"
            f"Description: {description}\n"
        )
    files["var/lib/dpkg/status"] = "\n".join(status).encode()
    files |= {name: source(f"base/{name}") for name in ("etc/passwd", "etc/group")}
    modes = {"usr/bin/acme-entrypoint": 0o755, "usr/bin/acme-su": 0o4755}
    entries = [Entry(name, data, mode=modes.get(name, 0o644)) for name, data in files.items()]
    entries += [
        Entry("bin", kind=SYMLINK, mode=0o777, link="usr/bin"),
        Entry("lib", kind=SYMLINK, mode=0o777, link="usr/lib"),
        Entry("etc/os-release", kind=SYMLINK, mode=0o777, link="../usr/lib/os-release"),
        Entry("usr/local/bin/entrypoint", kind=HARD_LINK, mode=0o755, link="usr/bin/acme-entrypoint"),
        directory("home/node", 0o755, NODE, NODE), directory("root", 0o700), directory("tmp", 0o1777),
    ]
    above = parents([entry.name.rstrip("/") for entry in entries])
    return sorted(above + entries, key=lambda entry: (entry.kind == HARD_LINK, entry.name))


def application_layer(files, **options):
    """A layer of the files given by path, with the directories above them."""
    return parents(files) + [Entry(name, data, **options) for name, data in sorted(files.items())]


def production(key):
    return {"app/config/production.json": source("app/config/production.json.in", STRIPE=key)}


def layers(addon):
    """The layers from the base up: instruction, minute after nine, entries. `addon` is the compiled module."""
    module = "app/node_modules/@acme/seal/"
    return [
        ("COPY rootfs/ / # buildkit", None, base_layer()),
        ("WORKDIR /app", 2, [directory("app")]),
        ("COPY .env package.json package-lock.json ./ # buildkit", 3, application_layer({
            "app/.env": source("app/env.in", GITHUB=planted.GITHUB, POSTGRES=planted.POSTGRES),
            "app/package.json": source("app/package.json"),
            "app/package-lock.json": source("app/package-lock.json"),
        })),
        ("RUN /bin/sh -c rm /app/.env # buildkit", 4, [directory("app"), Entry("app/.wh..env", mode=0)]),
        ("COPY src/ ./ # buildkit", 5, application_layer({
            "app/server.js": source("app/src/server.js"),
            "app/healthcheck.js": source("app/src/healthcheck.js"),
            "app/tmp/ci/debug.log": source("app/debug.log.in", SLACK=planted.SLACK),
        } | production(planted.STRIPE_FIRST))),
        ("RUN /bin/sh -c rm -rf tmp && mkdir tmp && chown node:node tmp # buildkit", 6, [
            directory("app"), directory("app/tmp", 0o755, NODE, NODE), Entry("app/tmp/.wh..wh..opq", mode=0),
        ]),
        (f"RUN |1 NPM_TOKEN={planted.NPM} /bin/sh -c npm ci --omit=dev # buildkit", 8, application_layer({
            module + "package.json": source("app/seal/package.json"),
            module + "index.js": source("app/seal/index.js"),
            module + "build/Release/seal.node": addon,
        })),
        ("COPY config/production.json config/production.json # buildkit", 11, application_layer(
            production(planted.STRIPE_ROTATED))),
    ]


def history(made):
    """The history: the instructions of the layers `made`, and between them those that make none."""
    without_layer = {
        0: [f"ENV PATH={PATH}", "ENV NODE_ENV=production"],
        5: ["ARG NPM_TOKEN"],
        7: [
            "LABEL " + " ".join(f"{key}={value}" for key, value in sorted(LABELS.items())),
            "USER node",
            "EXPOSE map[8443/tcp:{} 9229/tcp:{}]",
            'HEALTHCHECK &{["CMD" "node" "healthcheck.js"] "30s" "3s" "0s" "0s" \'\\x03\'}',
            'CMD ["node" "server.js"]',
        ],
    }
    out = []
    for index, (instruction, minute, _) in enumerate(made):
        created = time_of(minute)
        entry = {"created": created, "created_by": instruction, "comment": "buildkit.dockerfile.v0"}
        out.append(entry)
        out += [entry | {"created_by": text, "empty_layer": True} for text in without_layer.get(index, [])]
    return out


def time_of(minute):
    return BASE_CREATED if minute is None else f"2025-11-17T09:{minute:02}:00Z" if minute < 11 else CREATED


def configuration(made, archives):
    return {
        "architecture": "amd64",
        "config": {
            "User": "node",
            "ExposedPorts": {"8443/tcp": {}, "9229/tcp": {}},
            "Env": [f"PATH={PATH}", "NODE_ENV=production"],
            "Cmd": ["node", "server.js"],
            "Healthcheck": {
                "Test": ["CMD", "node", "healthcheck.js"],
                "Interval": 30_000_000_000, "Timeout": 3_000_000_000, "Retries": 3,
            },
            "WorkingDir": "/app",
            "Labels": dict(sorted(LABELS.items())),
            "OnBuild": None,
        },
        "created": CREATED,
        "history": history(made),
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(archive) for archive in archives]},
    }


def build(addon):
    """The bytes of the image's docker-save file, the files of each layer by path, and the configuration."""
    made = layers(addon)
    archives = [tar(entries, seconds(time_of(minute))) for _, minute, entries in made]
    config = configuration(made, archives)
    image = docker_save(compact(config), archives, REPOSITORY, TAG, seconds(CREATED))
    return image, [{entry.name: entry.data for entry in entries} for _, _, entries in made], config
