"""Files of the machine: holes, links, devices, pipes, files that others change, and outputs that are full."""

import os
import socket
import subprocess
import threading
import time

from harness import attack
from images import END, docker_archive, entry, header, oci_layout, token

LEAK = entry("app/.env", b"T=" + token().encode()) + END


def folder(setting):
    path = setting.at("root")
    os.makedirs(path)
    return path


@attack(1)
def a_terabyte_of_holes_below_a_directory(setting):
    path = folder(setting)
    with open(path + "/disk.img", "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"T=" + token().encode())
    yield setting.scan("rootfs:" + path)


@attack(2)
def a_terabyte_of_holes_as_an_archive(setting):
    with open(setting.at("huge.tar"), "wb") as file:
        file.truncate(1 << 40)
    yield setting.scan(setting.at("huge.tar"))


@attack(1)
def links_sockets_pipes_and_devices_below_a_directory(setting):
    path = folder(setting)
    os.symlink(".", path + "/loop")
    os.symlink("/", path + "/root")
    listening = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path)
    listening.bind("socket")
    os.chdir(here)
    os.mkfifo(path + "/pipe")
    with open(path.encode() + b"/bad\xff\x1b[31m\n", "wb") as file:
        file.write(b"T=" + token().encode())
    outcome = setting.scan("rootfs:" + path)
    yield outcome
    if b"\x1b" in outcome.out:
        yield "a name steers the terminal"


@attack(1, 3)
def a_deep_tree(setting):
    path = folder(setting)
    at = os.open(path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("dddddddddd", dir_fd=at)
        at, before = os.open("dddddddddd", os.O_RDONLY, dir_fd=at), at
        os.close(before)
    os.close(at)
    with open(path + "/.env", "wb") as file:
        file.write(b"T=" + token().encode())
    yield setting.scan("rootfs:" + path)
    subprocess.run(["rm", "-rf", path], check=True)


@attack(0, 3)
def many_files_below_a_long_path(setting):
    path = folder(setting) + ("/" + "x" * 200) * 17
    os.makedirs(path)
    for number in range(50_000):
        os.close(os.open(f"{path}/f{number}", os.O_CREAT, 0o600))
    yield setting.scan("rootfs:" + setting.at("root"))


@attack(0, 1, 3)
def a_file_that_shrinks_while_it_is_mapped(setting):
    path = setting.at("x.tar")
    for number in range(6):
        with open(path, "wb") as file:
            file.write(header("a", 300 << 20))
            file.write(os.urandom(1 << 20) * 300 + END)

        def shrink():
            time.sleep(0.05 + 0.06 * number)
            os.truncate(path, 1 << 20)

        shrinking = threading.Thread(target=shrink)
        shrinking.start()
        yield setting.scan("rootfs:" + path)
        shrinking.join()


# Devices without an end are refused, and what waits on a pipe ends in time.
@attack(2, 3)
def input_without_an_end(setting):
    for target in ("/dev/zero", "rootfs:/dev/zero", "docker-archive:/dev/zero", "rootfs:/dev/urandom"):
        outcome = setting.scan(target, "--timeout", "2s", most=30)
        yield outcome
        if outcome.seconds > 6:
            yield f"{target} took {outcome.seconds:.1f} s with --timeout 2s"
    os.mkfifo(setting.at("pipe"))
    for target in (setting.at("pipe"), "rootfs:" + setting.at("pipe")):
        outcome = setting.scan(target, "--timeout", "2s", most=30)
        yield outcome
        if outcome.seconds > 6:
            yield f"a pipe without a writer took {outcome.seconds:.1f} s with --timeout 2s"
    with subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE) as endless:
        yield setting.scan("-", "--timeout", "2s", stdin=endless.stdout, most=30)
        endless.kill()


@attack(2)
def a_listing_that_leads_out_of_its_layout(setting):
    path = oci_layout(setting.at("layout"), [LEAK])
    os.rename(path + "/index.json", setting.at("index.json"))
    os.symlink(setting.at("index.json"), path + "/index.json")
    yield setting.scan(path)


@attack(2)
def a_report_over_the_image(setting):
    path = docker_archive(setting.at("image.tar"), [LEAK])
    with open(path, "rb") as file:
        before = file.read()
    yield setting.scan(path, "-o", path)
    with open(path, "rb") as file:
        if file.read() != before:
            yield "the image is gone"


@attack(1, 2)
def devices_that_are_full(setting):
    path = docker_archive(setting.at("image.tar"), [LEAK])
    for redirected in ("2>/dev/full >/dev/null", ">/dev/full", "2>/dev/full >/dev/full", ">&- 2>&-"):
        command = ["sh", "-c", f'"$0" scan "$1" {redirected}', setting.program, path]
        code = subprocess.run(command, stderr=subprocess.PIPE, check=False)
        if code.returncode not in (1, 2) or b"panicked" in code.stderr:
            yield f"status {code.returncode} with {redirected}: {code.stderr[-200:]!r}"
    yield setting.scan(path, "-o", "/dev/full")


# Nobody reads the authorities of registries for a file.
@attack(1, 2)
def flags_that_name_devices(setting):
    path = docker_archive(setting.at("image.tar"), [LEAK])
    for flag in ("--rules", "--baseline", "--fingerprint-key", "--policy", "--registry-ca"):
        yield setting.scan(path, flag, "/dev/zero", most=30)
