// Axes for the charts: round ticks, grid lines, units. A chart is drawn for the width it has, so that its text stays legible.

/** Round values that cover low to high, about `wanted` of them. */
function ticks(low, high, wanted) {
  const range = high - low || Math.abs(high) || 1;
  const rough = range / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** The digits after the point that ticks need. */
const digitsOf = (values) => Math.max(...values.map((value) => (String(value).split('.')[1] ?? '').length));

/**
 * An SVG with two axes; `x` and `y` are { ticks, label, show }.
 * Answers the drawing, where a value lies (`at`), and the inner edges.
 */
function axes(width, height, x, y) {
  const left = 12 + 7 * Math.max(...y.ticks.map((value) => y.show(value).length));
  const edge = { left, right: width - 14, top: 26, bottom: height - 42 };
  const scale = (values, from, to) => (value) => from + ((value - values[0]) / (values.at(-1) - values[0])) * (to - from);
  const atX = scale(x.ticks, edge.left, edge.right);
  const atY = scale(y.ticks, edge.bottom, edge.top);
  const drawing = svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', focusable: 'false' });
  for (const value of y.ticks) {
    drawing.append(
      svg('line', { class: 'grid', x1: edge.left, x2: edge.right, y1: atY(value), y2: atY(value) }),
      svg('text', { x: edge.left - 7, y: atY(value) + 4, 'text-anchor': 'end' }, y.show(value)),
    );
  }
  x.ticks.forEach((value, i) => {
    const anchor = i === x.ticks.length - 1 ? 'end' : 'middle';
    drawing.append(
      svg('line', { class: 'grid', x1: atX(value), x2: atX(value), y1: edge.top, y2: edge.bottom + 4 }),
      svg('text', { x: anchor === 'end' ? edge.right + 8 : atX(value), y: edge.bottom + 18, 'text-anchor': anchor }, x.show(value)),
    );
  });
  drawing.append(
    svg('text', { class: 'axis', x: 2, y: 12 }, y.label),
    svg('text', { class: 'axis', x: edge.right, y: height - 6, 'text-anchor': 'end' }, x.label),
  );
  return { drawing, at: (vx, vy) => [atX(vx), atY(vy)], edge };
}

/** Draw again whenever the place has another width. */
function drawnIn(place, draw) {
  let width = 0;
  const again = () => {
    if (place.clientWidth === 0) return;
    width = place.clientWidth;
    draw(place, width);
  };
  new ResizeObserver(() => { if (place.clientWidth !== width) again(); }).observe(place);
  return again;
}
