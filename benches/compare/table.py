"""Medians over the runs, as a Markdown table with the facts of the machine above it."""

import os
import platform
from statistics import median

MB = 1e6
COLUMNS = ("scanner", "image", "runs", "wall s", "min–max", "CPU s", "× wall", "peak RSS MB", "anonymous MB",
           "written MB", "temporary MB", "findings", "says it scanned MB",
           "exit status")


def machine():
    """Processor, cores, memory and kernel, in one line."""
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def corpus_line(layers):
    """The sizes of the image, in one line."""
    raw, packed = (sum(layer[key] for layer in layers) / MB for key in ("raw_size", "size"))
    each = " + ".join(f"{layer['raw_size'] / MB:.0f}" for layer in layers)
    return f"{len(layers)} layers, {raw:.0f} MB uncompressed ({each}), {packed:.0f} MB gzip"


def render(rows, versions, layers, loads, notes):
    """The whole result. `rows` has for every scanner and image its runs; the first row is what others compare to."""
    base = median(wall(rows[0])) if rows and rows[0]["scanner"] == "layersift" and rows[0]["runs"] else None
    lines = [f"- machine: {machine()}; load average before the runs {min(loads):.1f} to {max(loads):.1f}",
             f"- image: {corpus_line(layers)}"]
    lines += [f"- {name}: {version}" for name, version in versions.items()]
    lines += [f"- note: {note}" for note in notes]
    lines += ["", row_line(COLUMNS), row_line("---" if n < 2 else "--:" for n in range(len(COLUMNS)))]
    lines += [row_line(cells(row, base)) for row in rows]
    return "\n".join(lines) + "\n"


def cells(row, base):
    """One line of the table."""
    runs = row["runs"]
    if not runs:
        return [row["scanner"], row["image"], "0", *["failed"], *["–"] * (len(COLUMNS) - 4)]
    middle = {key: median(run[key] for run in runs) for key in runs[0] if key not in ("findings", "scanned")}
    walls = wall(row)
    scanned = runs[0]["scanned"]
    return [
        row["scanner"], row["image"], str(len(runs)), f"{middle['wall_s']:.1f}", f"{min(walls):.1f}–{max(walls):.1f}",
        f"{middle['cpu_s']:.1f}", f"{middle['wall_s'] / base:.1f}" if base else "–",
        *(f"{middle[key] / MB:.0f}" for key in ("peak_rss", "peak_anonymous", "written", "scratch_peak")),
        values(runs, "findings"), "–" if scanned is None else f"{scanned / MB:.0f}", values(runs, "exit_status"),
    ]


def values(runs, key):
    """The value of all runs, or all values if they differ."""
    return "/".join(sorted({str(run[key]) for run in runs}))


def wall(row):
    return [run["wall_s"] for run in row["runs"]]


def row_line(texts):
    return f"| {' | '.join(texts)} |"
