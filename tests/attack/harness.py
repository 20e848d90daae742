"""Runs the program within bounds, and compares what it did with what an attack wants."""

import os
import signal
import subprocess
import threading
import time

ATTACKS = []

# The budget of a process: anonymous memory, mapped files apart.
MEMORY = 256 << 20

# What a small image may take, and what anything may take beyond its limit.
SECONDS = 5


class Outcome:
    """What one run did."""

    def __init__(self, code, seconds, cpu, memory, out, err):
        self.code, self.seconds, self.cpu, self.memory, self.out, self.err = code, seconds, cpu, memory, out, err

    def __str__(self):
        return f"status {self.code}, {self.seconds:.1f} s ({self.cpu:.1f} s of work), {self.memory >> 20} MiB"


class Setting:
    """The program, a folder that goes away, and the number of threads."""

    def __init__(self, program, folder, threads):
        self.program, self.folder, self.threads = program, folder, threads

    def at(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        path = self.at(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def run(self, *arguments, stdin=None, environment=None, most=120, before=None, directory=None):
        """Runs the program to its end, or kills it after `most` seconds."""
        known = dict(os.environ, XDG_CACHE_HOME=self.at("cache"), XDG_DATA_HOME=self.at("data"))
        for name in ("LAYERSIFT_STORE", "LAYERSIFT_LOG", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            known.pop(name, None)
        known.update(environment or {})
        started = time.time()
        out, err = open(self.at(".out"), "w+b"), open(self.at(".err"), "w+b")
        process = subprocess.Popen([self.program, *arguments], stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err,
                                   env=known, preexec_fn=before, cwd=directory or self.folder)
        peak, ended = [0], threading.Event()
        watcher = threading.Thread(target=watch, args=(process, peak, ended, started + most))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.time() - started
        ended.set()
        watcher.join()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(64 << 20))
            file.close()
        return Outcome(process.returncode, seconds, usage.ru_utime + usage.ru_stime, peak[0], *texts)

    def scan(self, target, *arguments, **options):
        return self.run("scan", target, "-q", "-j", self.threads, *arguments, **options)


def watch(process, peak, ended, deadline):
    """Notes the peak of anonymous memory, and kills what takes far too much of anything."""
    while not ended.wait(0.02):
        memory = anonymous(process.pid)
        peak[0] = max(peak[0], memory)
        if memory > 12 * MEMORY or time.time() > deadline:
            # Popen.kill would take the status that wait4 is waiting for.
            os.kill(process.pid, signal.SIGKILL)


def anonymous(process):
    """The anonymous memory of the program, once it runs: until then, its process has the memory of this one."""
    try:
        if os.readlink(f"/proc/{process}/exe") == os.readlink("/proc/self/exe"):
            return 0
        with open(f"/proc/{process}/status") as status:
            for line in status:
                if line.startswith("RssAnon"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


class Attack:
    def __init__(self, name, run, codes, seconds, memory):
        self.name, self.run, self.codes, self.seconds, self.memory = name, run, codes, seconds, memory

    def faults(self, setting):
        """Runs the attack. It yields the runs to compare, and texts about what else is wrong."""
        faults = []
        wanted = f"status {' or '.join(map(str, self.codes))}, {self.seconds} s, {self.memory >> 20} MiB"
        for got in self.run(setting):
            if isinstance(got, str):
                faults.append(got)
                continue
            print(f"{self.name}: {got}  (wanted: {wanted})", flush=True)
            if got.code not in self.codes:
                faults.append(f"status {got.code}: {(got.err or got.out)[-300:]!r}")
            # Work and not time: the machine may do other things.
            if got.cpu > self.seconds:
                faults.append(f"{got.cpu:.1f} s of work")
            if got.memory > self.memory:
                faults.append(f"{got.memory >> 20} MiB of memory")
            if b"panicked" in got.err:
                faults.append(f"it panicked: {got.err[-300:]!r}")
        return faults


def attack(*codes, seconds=SECONDS, memory=MEMORY):
    """Declares an attack: the exit statuses that hold, the seconds of work, and the bytes of memory."""

    def declare(function):
        name = f"{function.__module__.rsplit('.', 1)[-1]}/{function.__name__}"
        ATTACKS.append(Attack(name, function, codes, seconds, memory))
        return function

    return declare
