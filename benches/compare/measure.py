"""Runs one command and measures it from outside: the kernel's own accounts where it keeps them, polling where not."""

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MEMORY_POLL_S = 0.05
SCRATCH_POLL_S = 1.0


@dataclass
class Usage:
    """What one run took. Bytes are bytes, times are seconds."""

    wall_s: float
    cpu_s: float
    peak_rss: int
    peak_anonymous: int
    written: int
    scratch_peak: int
    scratch_left: int
    exit_status: int


def measure(command, env, scratch, stdout, stderr):
    """Runs `command` to its end. `scratch` is the folder that holds its TMPDIR, HOME and caches, and is removed."""
    os.sync()  # what others wrote shall not be on this one's account
    started = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], env=env, stdin=subprocess.DEVNULL, stdout=stdout,
                               stderr=stderr, start_new_session=True)
    watch = Watch(process.pid, scratch)
    try:
        _, status, account = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, 9)
        raise
    finally:
        wall = time.monotonic() - started
        watch.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    left = folder_size(scratch)
    shutil.rmtree(scratch)
    return Usage(
        wall_s=wall,
        cpu_s=account.ru_utime + account.ru_stime,
        peak_rss=account.ru_maxrss * 1024,
        peak_anonymous=watch.anonymous,
        written=account.ru_oublock * 512,
        scratch_peak=max(watch.scratch, left),
        scratch_left=left,
        exit_status=process.returncode,
    )


class Watch:
    """Two threads that poll: the anonymous memory of a process tree, and the size of its scratch folder."""

    def __init__(self, pid, scratch):
        self.pid, self.folder = pid, scratch
        self.anonymous = self.scratch = 0
        self.done = threading.Event()
        self.threads = [threading.Thread(target=poll) for poll in (self.poll_memory, self.poll_scratch)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join()

    def poll_memory(self):
        while not self.done.wait(MEMORY_POLL_S):
            self.anonymous = max(self.anonymous, sum(map(anonymous_memory, process_tree(self.pid))))

    def poll_scratch(self):
        pause = SCRATCH_POLL_S
        while not self.done.wait(pause):
            started = time.monotonic()
            self.scratch = max(self.scratch, folder_size(self.folder))
            # A folder of many files is walked more seldom, so that the watching takes less than a twentieth of a core.
            pause = max(SCRATCH_POLL_S, 20 * (time.monotonic() - started))


def process_tree(pid):
    """The process and its living descendants."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        for children in Path(f"/proc/{current}/task").glob("*/children"):
            try:
                queue.extend(map(int, children.read_text().split()))
            except OSError:
                pass  # that thread has ended
    return found


def anonymous_memory(pid):
    """Resident memory that no file backs, in bytes; 0 for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def folder_size(folder):
    """Disk space taken below `folder`, in bytes; files may come and go meanwhile."""
    total, queue = 0, [folder]
    while queue:
        try:
            entries = list(os.scandir(queue.pop()))
        except OSError:
            continue  # removed while being looked at, and so below
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
            except OSError:
                continue
    return total


def warm(path):
    """Reads a file, or every file of a folder, so that it is in the page cache."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        with open(file, "rb", buffering=0) as source:
            while source.read(1 << 22):
                pass
