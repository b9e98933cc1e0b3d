/* Tables that sort and filter; charts whose series switch on and off; CSV without a server. */
(() => {
  "use strict";
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /* Numbers before words, and what is missing last, whichever way a column is sorted. */
  const keyOf = (cell) => {
    const text = cell.textContent.trim();
    const number = text.replace(/−/g, "-").replace(/,(?=\d{3})/g, "").match(/^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    if (text === "" || text === "–") return [2, ""];
    return number ? [0, Number(number[0])] : [1, text];
  };
  const compare = ([kind, value], [otherKind, other]) =>
    kind - otherKind || (kind === 0 ? value - other : value.localeCompare(other));

  const sortable = (table) => {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button", title: "sort" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
        rows.sort(([a], [b]) => (down && a[0] !== 2 && b[0] !== 2 ? compare(b, a) : compare(a, b)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  };

  const searchable = (table) => {
    const input = make("input", { type: "search", placeholder: "filter rows: every word must occur" });
    input.setAttribute("aria-label", "filter rows");
    const told = make("span", { className: "muted" });
    const rows = [...table.tBodies[0].rows];
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      told.textContent = words.length ? ` ${shown} of ${rows.length} rows` : "";
    });
    table.parentElement.before(make("div", { className: "search" }, input, told));
  };

  for (const table of document.querySelectorAll("table")) {
    const rows = table.tBodies[0].rows.length;
    if (rows > 1) sortable(table);
    if (rows >= 12) searchable(table);
  }

  const tip = make("div", { id: "tip", hidden: true });
  document.body.append(tip);
  const showTip = (handler, event, item, value) => {
    tip.hidden = value === null || value === undefined || typeof value !== "object";
    if (tip.hidden) return;
    const rows = Object.entries(value).filter(([, text]) => text !== "" && text !== "null" && text !== "NaN");
    tip.replaceChildren(make("table", {}, ...rows.map(([name, text]) =>
      make("tr", {}, make("th", { textContent: name }), make("td", { textContent: text })))));
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(4, Math.min(event.pageX + 14, room))}px`;
    tip.style.top = `${event.pageY + 14}px`;
  };

  const config = {
    /* Measured as drawn: a chart leaves room for its labels. */
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: { labelFontSize: 12, labelSeparation: 6, titleFontSize: 12, titleFontWeight: "normal", gridOpacity: 1 },
    title: { fontSize: 13, anchor: "start" },
  };

  const swatch = (colour, dash) => {
    const holder = make("span");
    holder.innerHTML = '<svg width="26" height="10" aria-hidden="true"><line x1="1" y1="5" x2="25" y2="5" stroke-width="3"/></svg>';
    const line = holder.querySelector("line");
    line.setAttribute("stroke", colour);
    line.setAttribute("stroke-dasharray", dash.join(" "));
    return holder.firstChild;
  };

  const draw = (figure) => {
    const chart = JSON.parse(figure.querySelector("script.chart").textContent);
    const names = chart.series.map(([name]) => name);
    const shown = new Set(chart.shown ?? names);
    const views = [];
    const panels = make("div", { className: "panels" });
    const entries = chart.series.map(([name, colour, dash]) => {
      const box = make("input", { type: "checkbox", checked: shown.has(name), name });
      const label = make("label", {}, box, swatch(colour, dash), name);
      box.addEventListener("change", () => {
        if (box.checked) shown.add(name); else shown.delete(name);
        refresh();
      });
      return { name, box, label };
    });
    const refresh = () => {
      for (const { name, box, label } of entries) {
        box.checked = shown.has(name);
        label.classList.toggle("off", !box.checked);
      }
      for (const view of views) view.signal("shown", names.filter((name) => shown.has(name))).runAsync();
    };
    const all = make("button", { type: "button", textContent: "all" });
    all.addEventListener("click", () => { names.forEach((name) => shown.add(name)); refresh(); });
    const none = make("button", { type: "button", textContent: "none" });
    none.addEventListener("click", () => { shown.clear(); refresh(); });
    const legend = make("div", { className: "legend" }, ...entries.map(({ label }) => label), all, none);
    const still = figure.querySelector("img");
    still.before(legend, panels);
    /* All places first: a chart takes the width that its place has now. */
    const places = chart.panels.map(() => make("div"));
    panels.append(...places);
    const logger = vega.logger(vega.Error);
    const drawn = chart.panels.map((panel, number) => {
      const spec = {
        ...panel,
        config,
        width: "container",
        autosize: { type: "fit-x", contains: "padding" },
        background: null,
        data: { values: chart.csv, format: { type: "csv", parse: chart.parse } },
        params: [{ name: "shown", value: [...shown] }, ...(panel.params ?? [])],
      };
      const runtime = vega.parse(vegaLite.compile(spec, { logger }).spec);
      const view = new vega.View(runtime, { renderer: "svg", tooltip: showTip, logger });
      view.initialize(places[number]);
      views.push(view);
      return view.runAsync();
    });
    const csv = figure.querySelector("a.csv");
    if (csv) csv.href = URL.createObjectURL(new Blob([chart.csv], { type: "text/csv" }));
    refresh();
    return Promise.all(drawn).then(() => { still.hidden = true; figure.classList.add("drawn"); });
  };

  const unpacked = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const charts = [...document.querySelectorAll("figure:has(script.chart)")];
  const library = document.getElementById("vega");
  if (!library || !charts.length) { document.documentElement.classList.add("ready"); return; }
  unpacked(library.textContent)
    .then((code) => document.head.append(make("script", { textContent: code })))
    .then(() => Promise.all(charts.map(draw)))
    .catch((error) => console.error(error))
    .finally(() => document.documentElement.classList.add("ready"));
})();
