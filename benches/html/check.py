#!/usr/bin/env python3
"""Looks at the HTML report in Chromium: console, network, accessibility, filters, times, pictures.

Needs `chromium`, and the source of axe-core (`npm install axe-core`). Times vary on shared machines, so they are
printed next to their bars; everything else that is wrong ends the check with status 1. Look at the pictures, too.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import reports
from chromium import Chromium

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPEN, FILTER, BYTES = 1_000, 100, 8_000_000
ROUNDS = 5
FOUND = []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axe", required=True, help="axe.min.js of axe-core")
    parser.add_argument("--incident", required=True, help="JSON report of testdata/incident.tar")
    parser.add_argument("--work", default=ROOT / "target/html", help="where pages and pictures are written")
    parser.add_argument("--render", help="program that writes a page: RENDER html REPORT.json [default: the example]")
    options = parser.parse_args()
    work = pathlib.Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    pages = write_pages(options, work)
    axe = pathlib.Path(options.axe).read_text()
    browser = Chromium()
    try:
        for name, page in pages.items():
            look(browser, name, page, work, axe)
        filters(browser, pages["incident"], "incident")
        filters(browser, pages["large"], "large")
        without_scripts(browser, pages["large"], work)
        keyboard(browser, pages["incident"])
        links(browser, pages["large"], work)
    finally:
        browser.close()
    for fault in FOUND:
        print("WRONG", fault)
    sys.exit(1 if FOUND else 0)


def write_pages(options, work):
    incident = json.loads(pathlib.Path(options.incident).read_text())
    full = reports.full(incident)
    passing = {**incident, "findings": incident["findings"][8:9], "verdict": "pass"}
    several = {"schema": 1, "reports": [passing, full, reports.large(40)]}
    pages = {}
    for name, report in {"incident": incident, "full": full, "passing": passing, "several": several,
                         "hostile": reports.hostile(), "large": reports.large(10_000)}.items():
        source, page = work / f"{name}.json", work / f"{name}.html"
        source.write_text(json.dumps(report))
        example = ["cargo", "run", "--quiet", "-p", "layersift-report", "--example", "render", "--"]
        command = [options.render] if options.render else example
        with page.open("wb") as out:
            subprocess.run([*command, "html", str(source)], stdout=out, check=True, cwd=ROOT)
        print(f"{name}: {page.stat().st_size:,} bytes")
        expect(page.stat().st_size <= BYTES or name == "hostile", f"{name}: more than {BYTES:,} bytes")
        pages[name] = page
    return pages


def look(browser, name, page, work, axe):
    """Opens a page in each theme and width, and prints it."""
    for theme in ("light", "dark"):
        browser.errors.clear()
        browser.urls.clear()
        browser.emulate(theme=theme)
        times = sorted(browser.open(page) for _ in range(3 if name == "large" else 1))
        print(f"{name}, {theme}: open after {times[len(times) // 2]:.0f} ms (bar {OPEN})")
        browser.screenshot(work / f"{name}-{theme}.png", is_whole=name not in ("large", "hostile"))
        expect(browser.run("document.documentElement.scrollWidth <= innerWidth"), f"{name}, {theme}: scrolls sideways")
        if name != "large":
            axe_violations(browser, axe, f"{name}, {theme}")
        expect(not browser.errors, f"{name}, {theme}: console: {browser.errors[:3]}")
        others = [url for url in browser.urls if not url.startswith("file:")]
        expect(not others, f"{name}, {theme}: asked for {others[:3]}")
    browser.emulate(width=360, height=780)
    browser.open(page)
    browser.screenshot(work / f"{name}-narrow.png", is_whole=name in ("incident", "full"))
    expect(browser.run("document.documentElement.scrollWidth <= innerWidth"), f"{name}, narrow: scrolls sideways")
    if name in ("incident", "full"):
        axe_violations(browser, axe, f"{name}, narrow")
    if name != "large":
        browser.emulate(theme="dark")
        browser.open(page)
        browser.pdf(work / f"{name}.pdf")
    if name == "hostile":
        expect(not browser.run("window.wasRun ?? false"), "hostile: a script ran")
        alien = "main img, main script, main svg svg, [onload], [onerror]"
        alien = browser.run(f"document.querySelectorAll('{alien}').length")
        expect(alien == 0, f"hostile: {alien} elements from text")
        images = browser.run("document.querySelectorAll('.image').length")
        expect(images == len(reports.HOSTILE), "hostile: images are missing")


def axe_violations(browser, axe, where):
    browser.run(axe + ";0")
    found = browser.run("axe.run().then(result => result.violations.map(one => "
                        "[one.impact, one.id, one.nodes.length, one.nodes[0].html.slice(0, 150), "
                        "one.nodes[0].failureSummary]))")
    for impact, id, count, html, summary in found:
        print(f"  axe, {where}: {impact} {id} ×{count} {html} {summary}")
    serious = [one[1] for one in found if one[0] in ("serious", "critical")]
    expect(not serious, f"{where}: axe: {serious}")
    if not found:
        print(f"  axe, {where}: no violations")


SET = """(async (name, value) => {
  const field = document.querySelector(`#filters [name=${name}]`);
  field.focus();
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const start = performance.now();
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  const script = performance.now() - start;
  document.body.offsetHeight;
  await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const visible = [...document.querySelectorAll(".p")].filter(row => !row.closest("[hidden]")).length;
  const lanes = document.querySelectorAll(".lane:not(.is-off)").length;
  return [script, performance.now() - start, document.querySelector("#filters output").value, visible, lanes];
})"""


def filters(browser, page, name):
    """Uses each filter, and clears it. The times are until the browser has painted; the first round prepares."""
    browser.emulate()
    browser.open(page)
    total = browser.run("document.querySelectorAll('.p').length")
    worst = 0
    rule = browser.run("document.querySelector('#filters [name=rule]').options[1].value")
    layer = browser.run("document.querySelector('#filters [name=layer]').options[2].value")
    steps = [("severity", "0 1"), ("severity", ""), ("rule", rule), ("layer", layer), ("rule", ""), ("layer", ""),
             ("state", "2"), ("state", ""), ("text", "a"), ("text", "app"), ("text", "app/.env nothing"), ("text", ""),
             ("severity", "3 3"), ("severity", "")]
    times = [[] for _ in steps]
    for turn in range(ROUNDS):
        for index, (field, value) in enumerate(steps):
            busy = browser.busy()
            script, painted, status, visible, lanes = browser.run(f"{SET}({json.dumps(field)}, {json.dumps(value)})")
            times[index].append((painted, script, browser.busy() - busy))
            announced = int(status.split()[0].replace(",", ""))
            expect(announced == visible, f"{name}: {field}={value}: {announced} announced, {visible} visible")
            if turn == 0:
                print(f"  {name}: {field}={value!r}: {status}; {lanes} lines")
    for (field, value), taken in zip(steps, times):
        painted, script, busy = (sorted(column)[ROUNDS // 2] for column in zip(*taken))
        print(f"  {name}: {field}={value!r}: {script:.0f} ms in the script, painted after {painted:.0f} ms, "
              f"{busy:.0f} ms of CPU in the page's thread")
        worst = max(worst, painted)
    expect(browser.run("document.querySelectorAll('main .p').length") == total, f"{name}: rows are missing")
    expect(status == f"{total:,} findings", f"{name}: not clear at the end: {status}")
    print(f"{name}: slowest filter {worst:.0f} ms, medians of {ROUNDS} (bar {FILTER})")
    expect(not browser.errors, f"{name}: console while filtering: {browser.errors[:3]}")


def without_scripts(browser, page, work):
    browser.scripts(False)
    browser.emulate()
    browser.events.clear()
    browser.call("Page.navigate", url=page.resolve().as_uri())
    while "Page.loadEventFired" not in browser.events:
        browser.receive()
    browser.screenshot(work / "without-scripts.png")
    shown = browser.run("document.querySelectorAll('.p').length + ' ' + document.getElementById('filters').hidden")
    expect(shown == "10000 true", f"without scripts: {shown}")
    browser.scripts(True)


def keyboard(browser, page):
    """Tabs through the page: focus is visible, and reaches the filters and the findings."""
    browser.emulate()
    browser.open(page)
    seen = []
    for _ in range(30):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(browser.run("(document.activeElement.name || document.activeElement.className || "
                                "document.activeElement.tagName) + ''"))
    print("  keyboard:", " ".join(seen))
    expect({"text", "severity", "rule", "layer", "state"} <= set(seen), f"keyboard: filters are not reached: {seen}")


def links(browser, page, work):
    """Follows a line of the picture and links to findings that are folded or filtered away, and prints a filtered page."""
    browser.emulate()
    browser.open(page)
    browser.run("document.querySelector('.picture .lane .start').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    settle = "new Promise(done => setTimeout(done, 300))"
    browser.run(settle)
    expect(browser.run("location.hash") == "#i0-e1", "links: a line does not lead to its finding")
    is_seen = "(id => { const box = document.getElementById(id).getBoundingClientRect(); return box.height > 0 && " \
              "box.top >= 0 && box.bottom <= innerHeight })"
    expect(browser.run(f"{is_seen}('i0-e1')"), "links: the finding of a line is not seen")
    browser.run("location.hash = 'i0-e900'")
    browser.run(settle)
    expect(browser.run(f"{is_seen}('i0-e900')"), "links: a folded finding is not seen")
    browser.run(f"{SET}('severity', '3 3')")
    browser.screenshot(work / "filtered.png")
    browser.run("location.hash = 'i0-e1500'")
    browser.run(settle)
    expect(browser.run(f"{is_seen}('i0-e1500')"), "links: a finding that was filtered away is not seen")
    expect(browser.run("document.querySelector('#filters output').value") == "10,000 findings", "links: still filtered")
    browser.run(f"{SET}('text', 'file77.js')")
    browser.pdf(work / "filtered.pdf")


def expect(is_so, fault):
    if not is_so:
        FOUND.append(fault)


if __name__ == "__main__":
    main()
