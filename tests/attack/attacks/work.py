"""Images that are made to take time: bombs, joins, and text that takes longer than other text."""

import bz2
import gzip
import struct
import subprocess

from harness import attack
from images import END, docker_archive, entry, header, long_name, oci_layout, token, tokens, zipped

MIB = 1 << 20


def zeros(program, size, head=b""):
    """`head` and `size` zeros, compressed by `program`."""
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        import threading

        def feed():
            process.stdin.write(head)
            for _ in range(size >> 22):
                process.stdin.write(bytes(4 * MIB))
            process.stdin.write(END)
            process.stdin.close()

        feeding = threading.Thread(target=feed)
        feeding.start()
        content = process.stdout.read()
        feeding.join()
    return content


def zstandard(content):
    return subprocess.run(["zstd", "-q", "-3", "-c"], input=content, capture_output=True, check=True).stdout


def repeated(unit, size):
    return (unit * (size // len(unit) + 1))[:size]


@attack(3)
def a_layer_that_is_a_bomb_of_zstandard(setting):
    blob = zeros(["zstd", "-q", "-3", "-c"], 10 << 30, header("zeros", 10 << 30))
    yield setting.scan(oci_layout(setting.at("layout"), [blob]))


@attack(3)
def layers_that_are_small_bombs(setting):
    blobs = [zeros(["zstd", "-q", "-3", "-c"], 512 * MIB, header(f"zeros{number}", 512 * MIB)) for number in range(20)]
    yield setting.scan(oci_layout(setting.at("layout"), blobs))


# Each keyword begins patterns that come to nothing; each "A" is the end of a match.
@attack(3)
def layers_of_keywords(setting):
    for text in [b"key ", b"sk-", b"password=", b"A", b"secret"]:
        content = repeated(text, 64 * MIB)
        blobs = [zstandard(header(f"text{number}", 64 * MIB) + content + END) for number in range(30)]
        yield setting.scan(oci_layout(setting.at("layout-" + text.hex()), blobs))


@attack(3)
def layers_of_text_at_paths_with_rules(setting):
    name = ".claude/commands/redis/raddb/ipsec.d/swanctl/x.conf"
    content = repeated(b"curl  -d cat read <important> ", 32 * MIB)
    blobs = [zstandard(entry(f"{number}/{name}", content) + END) for number in range(10)]
    yield setting.scan(oci_layout(setting.at("layout"), blobs))


# Each key begins in the one before it, and is read from there.
@attack(3)
def keys_that_overlap(setting):
    long, short = 984, 41
    group = 28 + long + 2 + short + 4 + long
    end = group + 4 + short
    key = b"\x30\x82" + struct.pack(">H", end - 4) + b"\x02\x01\x00\x30\x82" + struct.pack(">H", group - 11)
    key += bytes.fromhex("06072a8648ce3804013082") + struct.pack(">H", group - 24)
    key += b"\x02\x82" + struct.pack(">H", long)
    key += bytes([2, short]) + b"\x02\x82" + struct.pack(">H", long) + bytes([4, 2 + short, 2, short, 1, 0x5A, 0xC3])
    layers = [zstandard(entry(f"{number}.bin", repeated(key, 8 * MIB)) + END) for number in range(12)]
    yield setting.scan(oci_layout(setting.at("layout"), layers))
    label = b" PGP PRIVATE KEY BLOCK-----\n"
    armor = b"-----BEGIN" + label + b"A" * 32_000 + b"\n-----END" + label
    layers = [zstandard(entry(f"{number}.asc", repeated(armor, 8 * MIB)) + END) for number in range(12)]
    yield setting.scan(oci_layout(setting.at("layout-pgp"), layers))


# What is compressed as a whole has layers that are not.
@attack(2, 3)
def archives_that_are_compressed_as_a_whole(setting):
    for text in [b"\0", b"key ", b"A"]:
        size = 4096 * MIB
        path = setting.at("image.tar.zst")
        with subprocess.Popen(["zstd", "-q", "-3", "-f", "-o", path], stdin=subprocess.PIPE) as process:
            process.stdin.write(header("layer.tar", size + 512) + header("file", size))
            for _ in range(size // MIB):
                process.stdin.write(repeated(text, MIB))
            process.stdin.close()
        yield setting.scan(path)
        yield setting.scan("rootfs:" + path)
        yield setting.run("sbom", path)


@attack(3)
def links_and_whiteouts_with_long_names(setting):
    for name, more in [("a" * 4_080, {"kind": b"1", "link": "f"}), ("a" * 2_000 + "/.wh." + "b" * 2_000, {})]:
        path = setting.at("root.tar.zst")
        with subprocess.Popen(["zstd", "-q", "-3", "-f", "-o", path], stdin=subprocess.PIPE) as process:
            process.stdin.write(entry("f", b"x"))
            for number in range(100_000):
                process.stdin.write(entry(f"{number}/{name}", **more))
            process.stdin.write(END)
            process.stdin.close()
        yield setting.scan("rootfs:" + path)


@attack(3)
def members_at_a_long_path(setting):
    name = "redis/raddb/mcp_tools/.codeium/a.cnf.kubeconfig/" * 80
    content = zipped([(f"{name}{number}", b"") for number in range(20_000)])
    layer = gzip.compress(entry(name + "a.zip", content) + END, 9)
    yield setting.scan(docker_archive(setting.at("image.tar"), [layer]))


@attack(3)
def files_that_are_bombs_of_bzip2(setting):
    packed = bz2.BZ2Compressor(9)
    stream = b"".join(packed.compress(bytes(8 * MIB)) for _ in range(128)) + packed.flush()
    layer = b"".join(entry(f"b{number}.bz2", stream * 4) for number in range(40)) + END
    yield setting.scan(docker_archive(setting.at("image.tar"), [layer]))


@attack(3)
def archives_of_archives(setting):
    content = zipped([("0.dll", bytes(256 * MIB))])
    for _ in range(5):
        content = zipped([(f"lib {number}.zip", content) for number in range(16)])
    layer = b"".join(entry(f"{number}.zip", content) for number in range(10)) + END
    yield setting.scan(docker_archive(setting.at("image.tar"), [layer]))


@attack(3)
def millions_of_members(setting):
    packed = b"".join(header(b"%d" % number) for number in range(400_000)) + END
    stream = gzip.compress(packed, 9)
    layer = b"".join(entry(f"{number}.tar.gz", stream) for number in range(4)) + END
    yield setting.scan(oci_layout(setting.at("layout"), [gzip.compress(layer, 9)]))


@attack(0, 1, 3)
def text_that_takes_longer(setting):
    import base64

    words = b'password = "hunter2aaaaaaaaaaaa" '
    twice = base64.b64encode(base64.b64encode(words * 20))
    units = [twice, b"password=".hex().encode(), "password=".encode("utf-16-le"), b"password=", b"eyJhbGciOiJIUzI1NiJ9.",
             b"-----BEGIN PRIVATE KEY-----\n", bytes.fromhex("30820940020100300d06092a864886f70d0101010500"), b"ghp_",
             b"\\u0070\\u0061\\u0073\\u0073\\u0077\\u006f\\u0072\\u0064", b"AGE-SECRET-KEY-1", b'{"kty":"RSA","d":"',
             b"112,97,115,115,119,111,114,100,61,", b"://u:p@"]
    for number, unit in enumerate(units):
        size = 64 * MIB
        layer = header("a.txt", size) + repeated(unit, size) + END
        packed = subprocess.run(["zstd", "-q", "-3", "-c"], input=layer, stdout=subprocess.PIPE, check=True).stdout
        if len(packed) > MIB:
            yield f"the image of {unit[:30]!r} has {len(packed)} bytes"
        yield setting.scan(oci_layout(setting.at(f"layout{number}"), [packed]), "-o", "/dev/null")


@attack(1, 3)
def findings_at_a_deep_path_below_many_layers(setting):
    deep = b"/".join([b"a"] * 2040)
    layers = [long_name(deep + b"/f.env") + entry("x", tokens(40)) + END]
    layers += [entry(f"z{number}", b"x") + END for number in range(300)]
    yield setting.scan(docker_archive(setting.at("image.tar"), layers), "-o", "/dev/null")


@attack(0, 3)
def a_long_name_of_a_folder_in_an_asar_archive(setting):
    files = ",".join(f'"f{number}":{{"size":0,"offset":"0"}}' for number in range(20_000))
    listing = f'{{"files":{{"{"N" * 1_000_000}":{{"files":{{{files}}}}}}}}}'.encode()
    listing += bytes(-len(listing) % 4)
    archive = struct.pack("<IIII", 4, len(listing) + 8, len(listing) + 4, len(listing)) + listing
    yield setting.scan(docker_archive(setting.at("image.tar"), [entry("app.asar", archive) + END]))


@attack(0, 3)
def decoys_of_descriptors_in_a_zip(setting):
    body = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 8, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    body += b"".join(struct.pack("<IIII", 0x08074B50, 0xDEADBEEF, at, at) for at in range(0, 4 * MIB, 16)) + bytes(64)
    yield setting.scan(docker_archive(setting.at("image.tar"), [entry("a.zip", body) + END]))


@attack(2)
def more_threads_than_there_can_be(setting):
    path = docker_archive(setting.at("image.tar"), [entry("a", token().encode()) + END])
    yield setting.run("scan", path, "-j", "100000")


@attack(2)
def documents_that_nest(setting):
    from images import config

    plain = entry("a", b"x") + END
    document = config([plain])[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield setting.scan(docker_archive(setting.at("image.tar"), [plain], document))


@attack(0, 3)
def many_entries_of_history(setting):
    from images import config

    plain = entry("a", b"x") + END
    history = [{"created_by": f"RUN x{number}", "empty_layer": True} for number in range(100_000)]
    yield setting.scan(docker_archive(setting.at("image.tar"), [plain], config([plain], history=history)))
