"use strict";
// Hides and shows what the page already has. Nothing from the image is read here but the text of the page, and nothing
// is written but numbers.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Printed pages have what is folded.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = all("details:not([open])");
    unfolded.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => unfolded.forEach((fold) => { fold.open = false; }));

  const form = document.getElementById("filters");
  if (!form) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.rule.length;
  const field = (name) => form.elements.namedItem(name)?.value ?? "";
  const english = (number) => number.toLocaleString("en");
  const status = form.querySelector("output");

  // Rows in the order of the page, and everything that contains some: a range of rows each.
  let rows = null;
  let texts = null;
  let containers = null;
  let lanes = null;
  let tabled = null;
  const prepare = () => {
    if (rows) return;
    rows = all(".p");
    containers = [];
    const open = [];
    let next = 0;
    for (const element of all(".rule, .e, .more, .chunk, .p")) {
      while (open.length && !open[open.length - 1].element.contains(element)) open.pop().end = next;
      if (element.classList.contains("p")) { next += 1; continue; }
      const summary = element.classList.contains("more") ? element.firstElementChild : null;
      const range = { element, start: next, end: next, summary, label: summary?.textContent, wasOpen: null,
        isHidden: false };
      containers.push(range);
      open.push(range);
    }
    while (open.length) open.pop().end = next;
    lanes = all(".picture .lane");
    const ranges = new Map(containers.map((range) => [range.element, range]));
    // The table of the lines has a row for each secret that is in it.
    tabled = all("tr[data-entry]").map((element) => {
      const id = `${element.closest(".image").id}-e${element.dataset.entry}`;
      const { start, end } = ranges.get(document.getElementById(id));
      return { element, start, end };
    });
  };
  const prepareTexts = () => {
    prepare();
    texts ??= rows.map((row) => row.textContent.toLowerCase());
  };

  const wanted = () => {
    const [worst, least] = (field("severity") || "0 9").split(" ").map(Number);
    const exact = ["rule", "layer", "state", "judged"].filter((name) => field(name) !== "");
    const words = field("text").toLowerCase().split(/\s+/).filter(Boolean);
    const isActive = field("severity") !== "" || exact.length > 0 || words.length > 0;
    if (words.length) prepareTexts();
    const columns = exact.map((name) => [data[name], Number(field(name))]);
    const matches = (row) => data.severity[row] >= worst && data.severity[row] <= least
      && columns.every(([column, value]) => column[row] === value)
      && words.every((word) => texts[row].includes(word));
    return { isActive, matches };
  };

  const shown = new Uint8Array(count).fill(1);
  const apply = () => {
    prepare();
    const { isActive, matches } = wanted();
    const sums = new Uint32Array(count + 1);
    for (let row = 0; row < count; row += 1) {
      sums[row + 1] = sums[row] + (!isActive || matches(row) ? 1 : 0);
    }
    // What is in a hidden element is left as it is: with many rows, that is most of the work.
    let next = 0;
    const upTo = (end) => {
      for (; next < end; next += 1) {
        const isShown = sums[next + 1] > sums[next];
        if (isShown === Boolean(shown[next])) continue;
        shown[next] = isShown ? 1 : 0;
        rows[next].hidden = !isShown;
      }
    };
    for (const range of containers) {
      if (range.start < next) continue;
      upTo(range.start);
      const matching = sums[range.end] - sums[range.start];
      const isHidden = isActive && matching === 0;
      if (range.isHidden !== isHidden) range.element.hidden = range.isHidden = isHidden;
      if (isHidden) next = range.end;
      else if (range.summary) fold(range, isActive, matching);
    }
    upTo(count);
    picture(isActive, sums);
    form.classList.toggle("is-active", isActive);
    const matching = isActive ? `${english(sums[count])} of ` : "";
    status.value = `${matching}${english(count)} findings${isActive ? " match" : ""}`;
  };

  // A fold that has matches is opened, and closed again when there is no filter.
  const fold = (range, isActive, matching) => {
    const total = range.end - range.start;
    range.summary.textContent = isActive ? `${english(matching)} of ${range.label} match` : range.label;
    if (isActive && matching > 0 && range.wasOpen === null) {
      range.wasOpen = range.element.open;
      range.element.open = true;
    } else if (!isActive && range.wasOpen !== null) {
      range.element.open = range.wasOpen;
      range.wasOpen = null;
    }
  };

  const picture = (isActive, sums) => {
    const onLane = new Uint32Array(lanes.length);
    let start = 0;
    const pictures = all(".image");
    data.images.forEach((size, image) => {
      const inLayer = new Map();
      for (let row = start; row < start + size; row += 1) {
        if (sums[row + 1] === sums[row]) continue;
        inLayer.set(data.layer[row], true);
        if (data.lane[row] >= 0) onLane[data.lane[row]] += 1;
      }
      start += size;
      for (const layer of all(".picture .row[data-layer]", pictures[image])) {
        layer.classList.toggle("is-off", isActive && !inLayer.has(Number(layer.dataset.layer)));
      }
    });
    for (const { element, start: first, end } of tabled) element.hidden = isActive && sums[end] === sums[first];
    lanes.forEach((lane, index) => lane.classList.toggle("is-off", isActive && onLane[index] === 0));
  };

  form.hidden = false;
  status.value = `${english(count)} findings`;
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("focusin", prepareTexts, { once: true });

  // A link to a finding that a filter hides ends the filter.
  addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target?.closest("[hidden]")) return;
    form.reset();
    apply();
    target.scrollIntoView();
  });

  // A click on a line of the picture leads to its finding, as the number in the table does.
  document.addEventListener("click", (event) => {
    const lane = event.target.closest?.(".picture .lane");
    if (lane) location.hash = `${lane.closest(".image").id}-e${lane.dataset.entry}`;
  });
})();
