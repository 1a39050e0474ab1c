// Charts: uPlot in the looks of the style sheet. Colours come from the computed style of the legend's lines.
"use strict";

{
  const box = $("#charts");
  const NARROW = 4;
  const LATE_POINTS = 2;
  const plots = new Map();
  let fetchedAt = 0;
  let step = 5;
  let busy = false;

  const style = (element, name) => getComputedStyle(element).getPropertyValue(name);
  const short = (number) => {
    if (number >= 1e6) return `${+(number / 1e6).toPrecision(3)} M`;
    return number >= 1e4 ? `${+(number / 1e3).toPrecision(3)} k` : (+number.toPrecision(3)).toLocaleString("en");
  };
  const duration = (seconds) => {
    if (seconds === 0) return "0";
    return seconds < 1 ? `${+(seconds * 1000).toPrecision(3)} ms` : `${+seconds.toPrecision(3)} s`;
  };
  const long = (seconds) => {
    if (seconds < 60) return duration(seconds);
    return seconds < 3600 ? `${+(seconds / 60).toPrecision(3)} min` : `${+(seconds / 3600).toPrecision(3)} h`;
  };
  const UNITS = { rate: short, answer: duration, outstanding: short, delivery: long };
  // The scale of the time to delivery is logarithmic, with lines at round times.
  const ROUND_TIMES = [0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000];
  const LEAST = { rate: 1, answer: 0.002, outstanding: 10 };

  // The top of the scale: 1, 2, 2.5, 4, 5 or 10 times a power of ten, so that both grid lines have short labels.
  function ceiling(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 4, 5, 8, 10].map((factor) => factor * power).find((top) => top >= value * 0.999999);
  }

  function rangeOf(name) {
    if (name !== "delivery") return { range: (_plot, _low, high) => [0, ceiling(Math.max(high || 0, LEAST[name]))] };
    const last = ROUND_TIMES.length - 1;
    return {
      distr: 3,
      range: (_plot, low, high) => {
        const below = Math.min(ROUND_TIMES.findLastIndex((time) => time <= (low || 1)), last - 1);
        const above = ROUND_TIMES.findIndex((time, place) => place > below && time >= (high || 1));
        return [ROUND_TIMES[Math.max(below, 0)], ROUND_TIMES[above < 0 ? last : above]];
      },
    };
  }

  function linesAt(name, { min, max }) {
    return name === "delivery" ? ROUND_TIMES.filter((time) => time >= min && time <= max) : [0, max / 2, max];
  }

  function timeLabel(seconds, span) {
    const at = new Date(seconds * 1000);
    const [day, month, hour, minute] = local
      ? [at.getDate(), at.getMonth(), at.getHours(), at.getMinutes()]
      : [at.getUTCDate(), at.getUTCMonth(), at.getUTCHours(), at.getUTCMinutes()];
    return span > 2 * 86400 ? `${day} ${MONTHS[month]}` : `${two(hour)}:${two(minute)}`;
  }

  function options(name, figure, lines) {
    const text = style($(".plot", figure), "color");
    const grid = style($(".plot", figure), "stroke");
    const format = UNITS[name];
    const font = `11px ${style(document.body, "font-family")}`;
    const axis = { stroke: text, font, ticks: { show: false }, gap: 6 };
    return {
      width: figure.clientWidth,
      height: 144,
      legend: { show: false },
      padding: [8, 22, 0, 0],
      cursor: { y: false, points: { size: 5 }, drag: { setScale: false, x: false, y: false } },
      scales: {
        x: { time: true, range: (_plot, low, high) => [low, high] },
        y: rangeOf(name),
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 22,
          splits: (plot) => {
            const { min, max } = plot.scales.x;
            return Array.from({ length: NARROW }, (_, place) => min + ((max - min) * place) / (NARROW - 1));
          },
          values: (plot, splits) => splits.map((at) => timeLabel(at, plot.scales.x.max - plot.scales.x.min)),
          align: 0,
        },
        {
          ...axis,
          grid: { stroke: grid, width: 1 },
          size: 56,
          splits: (plot) => linesAt(name, plot.scales.y),
          filter: (_plot, splits) => splits, // uPlot would leave out some of a logarithmic scale
          values: (_plot, splits) => splits.map(format),
        },
      ],
      series: [
        {},
        ...lines.map((line, place) => ({
          label: line.label,
          stroke: colour(figure, place),
          width: 1.5,
          points: { show: false },
          spanGaps: false,
        })),
      ],
      hooks: { setCursor: [(plot) => showPoint(figure, plot, format)] },
    };
  }

  function colour(figure, place) {
    const key = all(".key path", figure)[place];
    return key ? style(key, "stroke") : style(figure, "color");
  }

  // Under the pointer: the time and the values in a line below the legend.
  function showPoint(figure, plot, format) {
    const output = $(".point", figure);
    const place = plot.cursor.idx;
    if (place == null) {
      output.textContent = "";
      return;
    }
    const parts = plot.series.slice(1).map((series, index) => {
      const value = plot.data[index + 1][place];
      return `${series.label} ${value == null ? "–" : format(value)}`;
    });
    output.textContent = [clock(new Date(plot.data[0][place] * 1000), false), ...parts].join(" · ");
  }

  function describe(figure, name, lines) {
    const words = lines.map((line) => {
      const known = line.values.filter((value) => value != null);
      if (!known.length) return `${line.label}: unknown.`;
      const [least, most] = [Math.min(...known), Math.max(...known)];
      return `${line.label} between ${UNITS[name](least)} and ${UNITS[name](most)}, now ${UNITS[name](known.at(-1))}.`;
    });
    $(".plot", figure).setAttribute("aria-label", words.join(" "));
  }

  // A short gap is a sample that came late: uPlot draws over `undefined`, and not over `null`.
  function bridge(values) {
    const bridged = [...values];
    for (let start = 0; start < values.length; start += 1) {
      if (values[start] !== null) continue;
      let end = start;
      while (end < values.length && values[end] === null) end += 1;
      if (start > 0 && end < values.length && end - start <= LATE_POINTS) bridged.fill(undefined, start, end);
      start = end;
    }
    return bridged;
  }

  function draw(data) {
    step = data.step_seconds;
    for (const [name, lines] of Object.entries(data.lines)) {
      const figure = $(`[data-chart=${name}]`);
      const values = [data.times, ...lines.map((line) => bridge(line.values))];
      const labels = lines.map((line) => line.label).join("\n");
      const existing = plots.get(name);
      if (existing && existing.labels === labels) existing.plot.setData(values);
      else {
        if (existing) existing.plot.destroy();
        const target = $(".plot", figure);
        plots.set(name, { labels, lines, plot: new uPlot(options(name, figure, lines), values, target) });
      }
      describe(figure, name, lines);
    }
  }

  async function update() {
    if (busy || Date.now() - fetchedAt < Math.max(step, 5) * 1000) return;
    busy = true;
    try {
      const answer = await fetch(box.dataset.url);
      if (answer.ok) {
        draw(await answer.json());
        fetchedAt = Date.now();
      }
    } catch {
      // the console is away: the header says so, and the next tick tries again
    } finally {
      busy = false;
    }
  }

  function redraw() {
    for (const [name, { plot, labels, lines }] of plots) {
      const figure = $(`[data-chart=${name}]`);
      const data = plot.data;
      plot.destroy();
      plots.set(name, { labels, lines, plot: new uPlot(options(name, figure, lines), data, $(".plot", figure)) });
    }
  }

  if (box) {
    for (const figure of all("[data-chart]")) {
      const output = document.createElement("p");
      output.className = "point";
      output.setAttribute("aria-hidden", "true");
      figure.append(output);
    }
    if (box.dataset.points) draw(JSON.parse(box.dataset.points));
    else {
      update();
      document.addEventListener("tick", update);
    }
    new ResizeObserver(() => {
      for (const [name, { plot }] of plots) {
        plot.setSize({ width: $(`[data-chart=${name}]`).clientWidth, height: 144 });
      }
    }).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }
}
