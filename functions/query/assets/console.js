// Draws the charts, keeps parts of the overview up to date only as long as that is wanted, and lets nobody send a form twice.
"use strict";

(() => {
  const drawn = new Map();
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // One colour for each series; dashes tell them apart without colours, too.
  const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4], [1, 4]];

  // As the instants on the page: in UTC, and a day as 11-20.
  const time = (seconds) => {
    const text = new Date(seconds * 1000).toISOString();
    return text.endsWith("T00:00:00.000Z") ? text.slice(5, 10) : text.slice(11, 16);
  };

  function options(chart, width) {
    const line = { stroke: color("--line"), width: 1 };
    const axis = (values) => ({ stroke: color("--text"), grid: line, ticks: line, values: (_, splits) => splits.map(values) });
    // There are no half records.
    const count = (number) => (Number.isInteger(number) ? number.toLocaleString("en") : "");
    const series = chart.series.map(({ label }, index) => ({
      label,
      stroke: color(`--series-${index % 6}`),
      dash: dashes[index % dashes.length],
      width: 2,
      points: { fill: color("--page") },
    }));
    return {
      width,
      height: 240,
      axes: [axis(time), axis(count)],
      series: [{}, ...series],
      scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      // The table has the numbers.
      legend: { live: false },
    };
  }

  function draw(element) {
    drawn.get(element)?.destroy();
    const chart = JSON.parse(element.dataset.chart);
    const data = [chart.starts, ...chart.series.map(({ values }) => values)];
    drawn.set(element, new uPlot(options(chart, element.clientWidth || 320), data, element));
  }

  function drawAll(root) {
    // What was replaced meanwhile is let go.
    for (const [element, plot] of drawn) {
      if (!element.isConnected) {
        plot.destroy();
        drawn.delete(element);
      }
    }
    root.querySelectorAll("[data-chart]").forEach(draw);
  }

  const redraw = () => drawAll(document);
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // htmx says so of the page, and of each part that it loads.
  document.addEventListener("htmx:load", (event) => drawAll(event.detail.elt));

  document.addEventListener("htmx:beforeRequest", (event) => {
    const { live } = event.target.dataset;
    const isWanted = document.getElementById("live")?.checked && !document.hidden;
    if (live === "loaded" && !isWanted) event.preventDefault();
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if ("live" in event.target.dataset) event.target.dataset.live = "loaded";
  });

  for (const failure of ["htmx:sendError", "htmx:responseError"]) {
    document.addEventListener(failure, (event) => {
      const notice = document.createElement("p");
      notice.className = "notice wrong";
      notice.setAttribute("role", "alert");
      notice.textContent = "This part could not be loaded; it is tried again.";
      event.target.replaceChildren(notice);
    });
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
    } else {
      form.dataset.sent = "yes";
      form.setAttribute("aria-busy", "true");
    }
  });
  // A page that comes back from the browser's memory may send its forms again.
  window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => {
      delete form.dataset.sent;
      form.removeAttribute("aria-busy");
    });
  });
})();
