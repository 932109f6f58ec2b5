(async () => {
  "use strict";
  const LIGHT = { ink: "#1b1d20", line: "#d5d8dc", paper: "#ffffff" };
  const DARK = { ink: "#e6e8ea", line: "#3a4047", paper: "#14171a" };
  const ROUNDS = 10; // of points: each label is drawn in parts, so that none hides the others
  const FEW_POINTS = 2000;
  const LEGEND_BELOW = 12; // labels; the legend of more is at the side, where it scrolls
  const LONGEST_NAME = 20; // letters of a label in the legend
  const TIP = 112; // pixels, the longer side of an image that is pointed at
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  let printing = false;
  const plots = [];

  const content = (id) => document.getElementById(id).textContent.trim();
  const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const unpacked = (base64) =>
    new Response(new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip")));

  // A template holds for every axis of a figure, however many it has.
  function template() {
    const colours = !printing && dark.matches ? DARK : LIGHT;
    const axis = {
      gridcolor: colours.line, zerolinecolor: colours.line, linecolor: colours.line,
      automargin: true, title: { standoff: 8 }, fixedrange: false,
    };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colours.ink, size: 13, family: "system-ui, sans-serif" },
        xaxis: axis, yaxis: axis, modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.ink, activecolor: "#2a86c8" },
        hoverlabel: { bgcolor: colours.paper, font: { color: colours.ink } },
      },
    };
  }

  function draw(plot, data, layout, config) {
    plots.push(plot);
    const margin = { l: 10, r: 10, t: 10, b: 10 };
    return Plotly.newPlot(plot, data, { template: template(), margin, ...layout }, {
      responsive: true, displaylogo: false, displayModeBar: false, doubleClickDelay: 400, ...config,
    });
  }

  function drawCharts() {
    for (const script of document.querySelectorAll(".chart-data")) {
      const data = JSON.parse(script.textContent);
      draw(document.getElementById(script.dataset.plot), data, {
        dragmode: false, hovermode: "x", showlegend: data.length > 1,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
        xaxis: { title: { text: "epoch" } }, yaxis: { exponentformat: "power" },
      });
    }
  }

  function hasWebgl() {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("webgl") || canvas.getContext("experimental-webgl");
    return Boolean(context) && Boolean(context.getExtension("OES_element_index_uint"));
  }

  // A label as the legend has room for it, and as Plotly, which reads tags, shows it.
  function inLegend(name) {
    const letters = [...name];
    const short = letters.length > LONGEST_NAME ? `${letters.slice(0, LONGEST_NAME - 1).join("")}…` : name;
    return short.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  }

  async function drawScatter() {
    const about = JSON.parse(content("scatter-about"));
    const buffer = await unpacked(content("scatter-points")).arrayBuffer();
    const types = { u1: Uint8Array, f4: Float32Array, f8: Float64Array };
    const column = {};
    let offset = 0;
    for (const [name, type] of about.columns) {
      const end = offset + types[type].BYTES_PER_ELEMENT * about.n;
      column[name] = new types[type](buffer.slice(offset, end));
      offset = end;
    }
    const { x, y } = column;
    const [xName, yName] = about.axes;
    const label = new Uint8Array(about.n);
    const webgl = hasWebgl();
    const stride = webgl ? 1 : Math.ceil(about.n / FEW_POINTS);
    let start = 0;
    const groups = about.labels.map((name, group) => {
      const end = start + about.counts[group];
      label.fill(group, start, end);
      const shown = [];
      for (let point = start; point < end; point += stride) shown.push(point);
      start = end;
      return shown;
    });
    const traces = [];
    const names = about.labels.map(inLegend);
    for (let round = 0; round < ROUNDS; round += 1) {
      groups.forEach((shown, group) => {
        const points = shown.filter((_, place) => place % ROUNDS === round);
        if (!points.length) return;
        traces.push({
          type: webgl ? "scattergl" : "scatter", mode: "markers", hoverinfo: "none",
          name: names[group], legendgroup: group, showlegend: round === 0,
          customdata: points, x: points.map((point) => x[point]), y: points.map((point) => y[point]),
          marker: { size: about.n > 20000 ? 3 : 5, opacity: 0.65, color: about.colours[group] },
        });
      });
    }
    const figure = document.getElementById("scatter");
    if (!webgl) {
      const note = figure.querySelector(".no-webgl");
      const count = groups.reduce((sum, shown) => sum + shown.length, 0);
      note.textContent = `This browser has no WebGL: ${count.toLocaleString("en")} of ` +
        `${about.n.toLocaleString("en")} images are drawn. Each can be found by its number all the same.`;
      note.hidden = false;
    }
    const plot = document.getElementById("scatter-plot");
    const below = names.length <= LEGEND_BELOW || plot.clientWidth < 640;
    await draw(plot, traces, {
      hovermode: "closest", showlegend: about.labels.length > 1,
      dragmode: coarse.matches ? false : "zoom",
      margin: { l: 10, r: 10, t: 34, b: 10 }, // above are the buttons
      legend: { itemsizing: "constant", ...(below ? { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" } : {}) },
      xaxis: { title: { text: xName } },
      yaxis: { title: { text: about.equal ? yName : "" }, ...(about.equal ? { scaleanchor: "x" } : { visible: false }) },
    }, { displayModeBar: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"] });

    const tip = figure.querySelector(".tip");
    const canvas = tip.querySelector("canvas");
    const enlarged = TIP / Math.max(about.width, about.height);
    [canvas.width, canvas.height] = [about.width * enlarged, about.height * enlarged];
    const sprite = new Image();
    let last = -1;
    async function show(point) {
      last = point;
      const lines = [`image ${column.id[point]}, ${about.splits[column.split[point]]}`];
      if (about.labels.length > 1) lines.unshift(`label ${about.labels[label[point]]}`);
      lines.push(`${about.loss}: ${column.loss[point].toFixed(2)}`);
      lines.push(`${xName} ${x[point].toFixed(3)}`);
      if (about.equal) lines.push(`${yName} ${y[point].toFixed(3)}`);
      canvas.hidden = !column.picture[point];
      if (!column.picture[point]) lines.push("its picture was not kept");
      tip.querySelector("p").textContent = lines.join("\n");
      tip.hidden = false;
      const { xaxis, yaxis } = plot._fullLayout;
      const across = xaxis._offset + xaxis.d2p(x[point]);
      const down = yaxis._offset + yaxis.d2p(y[point]);
      const left = across > plot.clientWidth / 2 ? across - tip.offsetWidth - 14 : across + 14;
      tip.style.left = `${Math.max(0, Math.min(left, plot.clientWidth - tip.offsetWidth))}px`;
      tip.style.top = `${Math.max(0, Math.min(down - 60, plot.clientHeight - tip.offsetHeight))}px`;
      if (!column.picture[point]) return;
      if (!sprite.src) sprite.src = `data:image/webp;base64,${content("scatter-sprite")}`;
      await sprite.decode();
      if (last !== point) return;
      const left0 = (point % about.across) * about.width;
      const top0 = Math.floor(point / about.across) * about.height;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false; // which would take in the edges of neighbours
      context.drawImage(sprite, left0, top0, about.width, about.height, 0, 0, canvas.width, canvas.height);
      canvas.dataset.image = column.id[point];
    }
    const pointed = (event) => show(event.points[0].customdata);
    plot.on("plotly_hover", pointed);
    plot.on("plotly_click", pointed);
    plot.on("plotly_unhover", () => { tip.hidden = true; });
    plot.on("plotly_relayout", () => { tip.hidden = true; });
    figure.querySelector(".find").addEventListener("submit", (event) => {
      event.preventDefault();
      const asked = figure.querySelector("input").valueAsNumber;
      const point = column.id.indexOf(asked);
      if (point >= 0) { show(point); return; }
      last = -1;
      canvas.hidden = true;
      tip.querySelector("p").textContent = `There is no image ${asked} among the points.`;
      tip.hidden = false;
      tip.style.left = tip.style.top = "0";
    });
  }

  function recolour() {
    return Promise.all(plots.map((plot) => Plotly.relayout(plot, { template: template() })));
  }

  const opened = [];
  function beforePrint() {
    printing = true;
    for (const details of document.querySelectorAll("details:not([open], .raw)")) {
      details.open = true;
      opened.push(details);
    }
    recolour();
  }
  function afterPrint() {
    printing = false;
    for (const details of opened.splice(0)) details.open = false;
    recolour();
  }

  try {
    const script = document.createElement("script");
    script.textContent = await unpacked(content("plotly")).text();
    document.head.append(script);
    drawCharts();
    if (document.getElementById("scatter")) await drawScatter();
    dark.addEventListener("change", recolour);
    addEventListener("beforeprint", beforePrint);
    addEventListener("afterprint", afterPrint);
    document.querySelector(".no-figures").hidden = true;
  } catch (error) {
    console.error(error);
  }
  document.documentElement.dataset.ready = "yes";
})();
