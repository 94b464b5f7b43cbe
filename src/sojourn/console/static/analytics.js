// The chart, drawn from the table beside it: values by crosshair, times in the reader's zone, and as a picture.
const place = document.getElementById("chart");
const rows = [...document.querySelectorAll("#points tbody tr")];
const number = (cell) => (cell.textContent === "" ? null : Number(cell.textContent));
const data = [[], [], [], [], []];
for (const row of rows) {
  const cells = row.querySelectorAll("td");
  data[0].push(Number(row.dataset.at));
  data[1].push(number(cells[0]));
  data[2].push(number(cells[1]));
  data[3].push(number(cells[4]));
  data[4].push(number(cells[5]) ?? 0);
}

const color = (name) => {
  const probe = document.createElement("i");
  probe.className = name;
  probe.hidden = true;
  place.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

// Times are the reader's, by a clock of 24 hours; midnights are days.
const tell = (at, apart) => {
  const when = new Date(at * 1000);
  if (apart >= 86400 || when.getHours() + when.getMinutes() === 0) {
    return when.toLocaleDateString([], { day: "numeric", month: "short" });
  }
  return when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
};

// The capacity is labelled at its end.
const label = ({ ctx, bbox, valToPos }, ink) => {
  const seats = data[3].findLast((each) => each !== null);
  if (seats === undefined) return;
  ctx.save();
  ctx.fillStyle = ink;
  ctx.font = `${11 * devicePixelRatio}px ${getComputedStyle(place).fontFamily}`;
  ctx.textAlign = "right";
  ctx.fillText(`${seats} ${seats === 1 ? "seat" : "seats"}`, bbox.left + bbox.width, valToPos(seats, "y", true) - 5 * devicePixelRatio);
  ctx.restore();
};

let drawn = null;
const draw = () => {
  const [seat, dim, bad, line, ink] = ["ink-seat", "ink-dim", "ink-bad", "ink-line", "ink-ink"].map(color);
  const axis = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: `12px ${getComputedStyle(place).fontFamily}` };
  const step = uPlot.paths.stepped({ align: 1 });
  const refused = Math.max(1, ...data[4]);
  drawn?.destroy();
  place.replaceChildren();
  drawn = new uPlot(
    {
      width: place.clientWidth,
      height: 240,
      scales: { refused: { range: [0, refused * 4] }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
      axes: [
        { ...axis, space: 90, values: (_, instants, __, ___, apart) => instants.map((at) => tell(at, apart)) },
        { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] },
      ],
      legend: { live: true },
      hooks: { draw: [(chart) => label(chart, dim)] },
      series: [
        { value: (_, at) => (at === null ? "" : new Date(at * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" })) },
        { label: "In use, at most", stroke: seat, fill: color("ink-fill"), width: 1.5, paths: step },
        { label: "95 % of the time", stroke: ink, width: 0, points: { show: false } },
        { label: "Seats", stroke: dim, dash: [4, 4], width: 1, paths: step, points: { show: false } },
        { label: "Refused", scale: "refused", stroke: bad, fill: bad, width: 0, paths: uPlot.paths.bars({ size: [0.3, 6] }), points: { show: false } },
      ],
    },
    data,
    place,
  );
  const canvas = place.querySelector("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", place.dataset.about);
};

if (place && rows.length && window.uPlot) {
  draw();
  new ResizeObserver(() => drawn && drawn.width !== place.clientWidth && drawn.setSize({ width: place.clientWidth, height: 240 })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
  const save = document.getElementById("png");
  save.hidden = false;
  save.addEventListener("click", () => {
    place.querySelector("canvas").toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = "seats.png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  });
}

// Hours are those of the reader, whose zone console.js notes for the server; where they are others, one click away.
const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
const drawnFor = document.querySelector('input[name="zone"]')?.value;
const own = document.getElementById("own-zone");
if (own && timeZone && timeZone !== drawnFor) {
  const link = new URL(own.href);
  link.searchParams.set("zone", timeZone);
  own.href = link.href;
  own.textContent = `in ${timeZone}`;
  own.hidden = false;
}
