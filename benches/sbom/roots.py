"""Images whose packages are known: one for each form of rpm's database, and one with all other kinds of records.

Everything is made on this machine: the packages by rpmbuild, the databases by rpm, by db5.3_load from rpm's own headers,
and by the writer below; Java archives and apk's database by hand; executables by Go, and by objcopy.
"""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import tarfile
import zipfile
import zlib

SPEC = """Name: {name}
Version: {version}
Release: {release}
{epoch}Summary: nothing
License: MIT
BuildArch: noarch
%description
Nothing.
%files
"""

PACKAGES = [(f"sample-{number}", f"{number % 7}.{number}", f"{1 + number % 3}.el9", number % 5 or None)
            for number in range(1, 61)]


def build(work, log):
    """Builds what is missing below `work`; returns the images by name, with what each must have."""
    work.mkdir(parents=True, exist_ok=True)
    made = {}
    headers = rpm_headers(work, log)
    for form, write in (("sqlite", write_sqlite), ("bdb", write_berkeley), ("ndb", write_ndb)):
        image = work / f"rpm-{form}.tar"
        if not image.exists():
            files = {"etc/os-release": b'ID="rocky"\nVERSION_ID="9.4"\n', **write(work, headers, log)}
            save(image, [files])
        made[f"rpm-{form}"] = image
    image = work / "mixed.tar"
    if not image.exists():
        save(image, mixed(work, log))
    made["mixed"] = image
    return made


# rpm


def rpm_headers(work, log):
    """A SQLite database that rpm made, and the headers in it."""
    root = work / "rpm-root"
    database = root / "var/lib/rpm/rpmdb.sqlite"
    if not database.exists():
        shutil.rmtree(root, ignore_errors=True)
        (work / "specs").mkdir(exist_ok=True)
        for name, version, release, epoch in PACKAGES:
            spec = work / "specs" / f"{name}.spec"
            line = f"Epoch: {epoch}\n" if epoch else ""
            spec.write_text(SPEC.format(name=name, version=version, release=release, epoch=line))
        specs = sorted((work / "specs").glob("*.spec"))
        call(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {work}/rpmbuild", *specs], log)
        packages = sorted((work / "rpmbuild/RPMS/noarch").glob("*.rpm"))
        rpm = ["rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--define", "_db_backend sqlite"]
        root.mkdir()
        call([*rpm, "--initdb"], log)
        call([*rpm, "--force-debian", "--install", "--nodeps", "--noscripts", "--nosignature", *packages], log)
    with sqlite3.connect(database) as connection:
        return connection.execute("select hnum, blob from Packages order by hnum").fetchall()


def write_sqlite(work, _headers, _log):
    return {"var/lib/rpm/rpmdb.sqlite": (work / "rpm-root/var/lib/rpm/rpmdb.sqlite").read_bytes()}


def write_berkeley(work, headers, log):
    """Berkeley DB by its own tool, with keys as rpm wrote them: the number in the byte order of the machine."""
    database = work / "Packages"
    database.unlink(missing_ok=True)
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096", "HEADER=END"]
    lines += [" 00000000", " " + struct.pack("<I", len(headers) + 1).hex()]
    for number, blob in headers:
        lines += [" " + struct.pack("<I", number).hex(), " " + blob.hex()]
    lines.append("DATA=END")
    call(["db5.3_load", database], log, input="\n".join(lines) + "\n", text=True)
    return {"var/lib/rpm/Packages": database.read_bytes()}


def write_ndb(_work, headers, _log):
    """NDB, as lib/backend/ndb/rpmpkg.c of rpm lays it out."""
    pages = -(-(len(headers) + 2) * 16 // 4096)
    slots, blobs = [], b""
    for number, blob in headers:
        offset = (pages * 4096 + len(blobs)) // 16
        count = -(-(16 + len(blob) + 12) // 16)
        slots.append(b"Slot" + struct.pack("<III", number, offset, count))
        data = b"BlbS" + struct.pack("<III", number, 1, len(blob)) + blob
        data = data.ljust(count * 16 - 12, b"\0") + struct.pack("<II", 0, len(blob)) + b"BlbE"
        blobs += data
    head = b"RpmP" + struct.pack("<IIII", 0, 1, pages, len(headers) + 1)
    table = head.ljust(32, b"\0") + b"".join(slots)
    free = b"Slot" + bytes(12)
    table += free * ((pages * 4096 - len(table)) // 16)
    return {"usr/lib/sysimage/rpm/Packages.db": table + blobs}


# All other kinds, in two layers: the second removes and replaces some of the first


def mixed(work, log):
    apk = "".join(f"P:apk-{number}\nV:1.{number}-r0\nA:x86_64\nL:MIT\no:apk\n\n" for number in range(40))
    base = {
        "etc/os-release": b"ID=alpine\nVERSION_ID=3.20.1\n",
        "lib/apk/db/installed": apk.encode(),
        "app/gone/node_modules/gone/package.json": b'{"name":"gone","version":"1.0.0"}',
        "app/node_modules/kept/package.json": b'{"name":"kept","version":"1.0.0"}',
        "usr/lib/python3/site-packages/old-1.0.dist-info/METADATA": b"Name: old\nVersion: 1.0\n",
        "usr/lib/python3/site-packages/egg-2.0.egg-info/PKG-INFO": b"Name: egg\nVersion: 2.0\n",
        "usr/lib/python3/site-packages/flat-3.0.egg-info": b"Metadata-Version: 1.0\nName: flat\nVersion: 3.0\n",
        "srv/app.jar": jar("app", "1.0", {"BOOT-INF/lib/inner-2.0.jar": jar("inner", "2.0", {
            "lib/deep-3.0.jar": jar("deep", "3.0", {})})}),
        "srv/plain-4.5.jar": zipped({"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\nImplementation-Version: 4.5\n\n"}),
        **executables(work, log),
    }
    later = apk.replace("V:1.7-r0", "V:1.7-r1").replace("P:apk-9\n", "P:apk-nine\n")
    return [base, {
        "lib/apk/db/installed": later.encode(),
        "app/.wh.gone": b"",
        "usr/lib/python3/site-packages/.wh.old-1.0.dist-info": b"",
    }]


def jar(name, version, members):
    properties = f"groupId=org.sample\nartifactId={name}\nversion={version}\n".encode()
    return zipped({"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\n\n",
                   f"META-INF/maven/org.sample/{name}/pom.properties": properties, **members})


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def executables(work, log):
    """Go programs with modules of their own, and a program with a list of crates, where the tools are there."""
    found = {}
    if shutil.which("go"):
        folder = work / "go"
        (folder / "dep").mkdir(parents=True, exist_ok=True)
        (folder / "dep/go.mod").write_text("module example.org/dep\n\ngo 1.18\n")
        (folder / "dep/dep.go").write_text("package dep\n\nfunc Word() string { return \"word\" }\n")
        (folder / "go.mod").write_text("module example.org/app\n\ngo 1.18\n\nrequire example.org/dep v1.2.3\n\n"
                                       "replace example.org/dep => ./dep\n")
        (folder / "main.go").write_text("package main\n\nimport \"example.org/dep\"\n\nfunc main() { println(dep.Word()) }\n")
        for name, flags in (("plain", []), ("stripped", ["-ldflags=-s -w"])):
            call(["go", "build", "-buildvcs=false", *flags, "-o", folder / name, "."], log, cwd=folder,
                 env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOPROXY": "off"})
            found[f"usr/bin/go-{name}"] = (folder / name).read_bytes()
    if shutil.which("objcopy"):
        found["usr/bin/audited"] = audited(work, log)
    return found


def audited(work, log):
    """A program with the list of crates that cargo-auditable would have put into it."""
    crates = [{"name": f"crate-{number}", "version": f"0.{number}.1", "source": "crates.io"} for number in range(20)]
    crates.append({"name": "build-only", "version": "9.0.0", "source": "crates.io", "kind": "build"})
    crates.append({"name": "audited", "version": "0.3.0", "source": "local", "root": True,
                   "dependencies": list(range(20))})
    section = work / "dep-v0"
    section.write_bytes(zlib.compress(json.dumps({"packages": crates}).encode()))
    call(["objcopy", "--add-section", f".dep-v0={section}", "/bin/true", work / "audited"], log)
    return (work / "audited").read_bytes()


# Images


def save(path, layers):
    """A tar as `docker save` writes it, with a layer for each set of files."""
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w") as image:
        names = [f"{number}/layer.tar" for number in range(len(layers))]
        blobs = [layer_bytes(files) for files in layers]
        for name, blob in zip(names, blobs):
            add(image, name, blob, 0o644)
        diff_ids = ["sha256:" + hashlib.sha256(blob).hexdigest() for blob in blobs]
        config = {"architecture": "amd64", "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        add(image, "config.json", json.dumps(config).encode(), 0o644)
        manifest = [{"Config": "config.json", "RepoTags": [f"sbom/{path.stem}:1"], "Layers": names}]
        add(image, "manifest.json", json.dumps(manifest).encode(), 0o644)
    partial.rename(path)


def layer_bytes(files):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in sorted(files):
            add(tar, name, files[name], 0o755)
    return layer.getvalue()


def add(tar, name, data, mode):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def call(command, log, **options):
    log.write(f"$ {' '.join(map(str, command))}\n")
    log.flush()
    subprocess.run([str(part) for part in command], check=True, stdout=log, stderr=subprocess.STDOUT, **options)
