// The offers page: a scatter plot, a table with sort and filter, and another choice for the plan. Nothing here rents.
const MOST_ROWS = 64;
const PLOT_HEIGHT = 300;
const VIEW = 'vastai-workflow/offers';

const COLUMNS = [
  { key: 'offer', title: 'Offer', value: (row) => row.rank, first: 1, wide: false },
  { key: 'price', title: '$/h', value: (row) => row.price_per_hour, show: (row) => number(row.price_per_hour, 3), first: 1 },
  { key: 'dlperf', title: 'DLPerf', value: (row) => row.dlperf, show: (row) => number(row.dlperf, 1), first: -1 },
  { key: 'worth', title: 'DLPerf per $/h', value: worth, show: (row) => number(worth(row), 0), first: -1, wide: true },
  { key: 'reliability', title: 'Reliability', value: (row) => row.reliability, show: (row) => percent(row.reliability), first: -1, wide: true },
  { key: 'down', title: 'Down Mb/s', value: (row) => row.down_mbps, show: (row) => number(row.down_mbps, 0), first: -1, wide: true },
  { key: 'traffic', title: 'Traffic $/GB', value: (row) => row.traffic_per_gb, show: (row) => number(row.traffic_per_gb, 4), first: 1, wide: true },
];

const page = {
  workflowId: null,
  offers: new Map(),
  plan: null,
  matches: 0,
  ceiling: null,
  yesUntil: null,
  selected: new Set(),
  sort: { key: 'offer', way: 1 },
  busy: false,
};

function worth(row) {
  return known(row.dlperf) && row.price_per_hour > 0 ? row.dlperf / row.price_per_hour : null;
}

const percent = (share) => (known(share) ? `${number(share * 100, 1)} %` : '–');
const nameOf = (row) => `${row.num_gpus > 1 ? `${row.num_gpus}× ` : ''}${row.gpu}`;
const placeOf = (row) => row.region || 'region not told';
const place = (row) => el('bdi', {}, placeOf(row)); // other people's text keeps its direction to itself
const inPlan = (row) => page.plan.chosen.includes(row.offer_id);
const planned = () => page.plan.chosen.map((id) => page.offers.get(id)).filter(Boolean);
const count = () => page.plan.chosen.length;

/** Take over an answer of find_offers; `all`: it replaces what was there, else it adds to it. */
function take(result, all) {
  const answer = result.structuredContent;
  const view = result._meta?.[VIEW];
  if (all) page.offers.clear();
  for (const row of view?.offers ?? answer.offers) {
    const rank = page.offers.get(row.offer_id)?.rank ?? page.offers.size;
    page.offers.set(row.offer_id, { dlperf: null, ...row, rank });
  }
  if (all) page.matches = answer.matches;
  if (view) {
    page.ceiling = view.ceiling_per_hour;
    page.yesUntil = view.yes_until;
  }
  page.workflowId = answer.next_call?.arguments.workflow_id ?? page.workflowId; // none where nothing may be rented
  page.plan = answer;
  page.agreed = answer.next_call?.tool === 'create_instances';
  page.selected = new Set(answer.chosen);
  for (const id of ['plan', 'chart', 'choice']) byId(id).hidden = false;
  show(all);
}

function show(fresh) {
  if (fresh) showRegions();
  showPlan();
  showHeads();
  showRows();
  drawPlot();
  showSelected();
}

function showPlan() {
  const rows = planned();
  const words = rows.map((row, i) => [i > 0 ? '; ' : '', el('bdi', {}, nameOf(row)), ' in ', place(row), ` (offer ${row.offer_id})`]);
  byId('plan-words').replaceChildren(...words.flat());
  const { total_per_hour: total, runway_hours: runway, expires_at: until } = page.plan;
  const figures = [
    ['In all', perHour(total)],
    ['A day', dollars(total * 24)],
    ['Balance lasts', known(runway) ? span(runway) : 'not known'],
    ['Prices kept until', keptUntil(until * 1000)],
  ];
  byId('plan-figures').replaceChildren(...figures.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
  byId('plan-yes').textContent = yesWords();
  showAgainAfter(until * 1000, (page.yesUntil ?? 0) * 1000);
}

const keptUntil = (end) => (end <= Date.now() ? 'run out' : moment(new Date(end), { hour: '2-digit', minute: '2-digit' }));

function yesWords() {
  if (!page.agreed) return 'Nothing is rented before your yes. Your agent asks for it in the chat.';
  if (known(page.yesUntil) && page.yesUntil * 1000 <= Date.now()) return 'Your yes ran out. Your agent asks for another in the chat.';
  return 'Your yes covers this plan. It is rented when your agent creates it.';
}

/** What runs out, the page says by itself. */
function showAgainAfter(...ends) {
  clearTimeout(page.timer);
  const left = Math.min(...ends.map((end) => end - Date.now()).filter((time) => time > 0));
  if (left < 3_600_000) page.timer = setTimeout(showPlan, left + 1_000);
}

function showRegions() {
  const regions = [...new Set([...page.offers.values()].map(placeOf))].sort();
  const options = regions.map((name) => el('option', { value: name }, name));
  byId('filter-region').replaceChildren(el('option', { value: '' }, 'any'), ...options);
}

function showHeads() {
  const heads = COLUMNS.map((column) => {
    const sorted = page.sort.key === column.key;
    const way = page.sort.way > 0 ? 'ascending' : 'descending';
    const arrow = sorted && column.key !== 'offer' ? (page.sort.way > 0 ? ' ↑' : ' ↓') : '';
    const press = () => sortBy(column);
    return el(
      'th',
      { scope: 'col', class: classOf(column), 'aria-sort': sorted && column.key !== 'offer' ? way : null },
      el('button', { type: 'button', 'data-key': column.key, on: { click: press } }, column.title, el('span', { 'aria-hidden': 'true' }, arrow)),
    );
  });
  const focused = document.activeElement?.dataset?.key;
  byId('heads').replaceChildren(el('td', { class: 'pick' }, el('span', { class: 'unseen' }, 'Chosen')), ...heads);
  if (focused) byId('heads').querySelector(`[data-key="${focused}"]`).focus();
}

const classOf = (column) => `${column.key === 'offer' ? '' : 'figure'}${column.wide ? ' wide' : ''}`;

function sortBy(column) {
  const again = page.sort.key === column.key && column.key !== 'offer';
  page.sort = { key: column.key, way: again ? -page.sort.way : column.first };
  showHeads();
  showRows();
  say(column.key === 'offer' ? 'In the order of the search.' : `Sorted by ${column.title}, ${page.sort.way > 0 ? 'lowest' : 'highest'} first.`);
}

function passing() {
  const region = byId('filter-region').value;
  const limit = (id) => (byId(id).value === '' ? null : byId(id).valueAsNumber);
  const [price, dlperf, reliability] = ['filter-price', 'filter-dlperf', 'filter-reliability'].map(limit);
  return [...page.offers.values()].filter(
    (row) =>
      (region === '' || placeOf(row) === region) &&
      (price === null || row.price_per_hour <= price) &&
      (dlperf === null || (row.dlperf ?? -1) >= dlperf) &&
      (reliability === null || (row.reliability ?? -1) * 100 >= reliability),
  );
}

function ordered(rows) {
  const { value } = COLUMNS.find((column) => column.key === page.sort.key);
  const missing = (row) => (known(value(row)) ? 0 : 1); // what is not known comes last, either way
  return rows.sort((a, b) => missing(a) - missing(b) || page.sort.way * (value(a) - value(b)) || a.rank - b.rank);
}

function showRows() {
  const rows = ordered(passing());
  const focused = document.activeElement?.dataset?.offer;
  byId('rows').replaceChildren(...rows.map(rowOf));
  if (rows.length === 0) {
    byId('rows').append(el('tr', {}, el('td', { colspan: COLUMNS.length + 1, class: 'none' }, 'No offer passes this filter.')));
  }
  byId('rows').querySelector(`[data-offer="${Number(focused)}"]`)?.focus();
  const more = page.matches > page.offers.size ? ` The search found ${page.matches}: search again to see them.` : '';
  byId('shown').textContent = `${rows.length} of ${page.offers.size} offers shown.${more}`;
}

function rowOf(row) {
  const id = `offer-${row.offer_id}`;
  const input = el('input', {
    type: count() === 1 ? 'radio' : 'checkbox',
    name: 'offer',
    'data-offer': row.offer_id,
    'aria-labelledby': id,
    checked: page.selected.has(row.offer_id),
    on: { change: () => select(row.offer_id) },
  });
  const detail = [`${number(worth(row), 0)} per $/h`, percent(row.reliability), `${number(row.down_mbps, 0)} Mb/s`];
  const name = el(
    'th',
    { scope: 'row', id, on: { click: () => input.click() } },
    el('span', { class: 'name' }, el('bdi', {}, nameOf(row)), inPlan(row) ? el('span', { class: 'tag' }, 'plan') : null),
    el('span', { class: 'small' }, place(row), ` · ${row.offer_id}`),
    el('span', { class: 'small narrow' }, detail.join(' · ')),
  );
  const figures = COLUMNS.slice(1).map((column) => el('td', { class: classOf(column) }, column.show(row)));
  return el('tr', { class: inPlan(row) ? 'chosen' : null }, el('td', { class: 'pick' }, input), name, ...figures);
}

function select(offerId) {
  if (count() === 1) page.selected.clear();
  if (page.selected.has(offerId)) page.selected.delete(offerId);
  else page.selected.add(offerId);
  for (const input of byId('rows').querySelectorAll('input')) input.checked = page.selected.has(Number(input.dataset.offer));
  drawPlot();
  showSelected();
}

function showSelected() {
  const rows = [...page.selected].map((id) => page.offers.get(id));
  const total = rows.reduce((sum, row) => sum + row.price_per_hour, 0);
  const same = rows.length === count() && rows.every(inPlan);
  const left = count() - rows.length;
  const ids = rows.map((row) => row.offer_id).join(', ');
  let words = `Selected: offer ${ids}, ${perHour(total)}.`;
  if (same) words = 'The plan is selected.';
  else if (left !== 0) words = `Selected: ${rows.length} of ${count()}. ${left > 0 ? `Select ${left} more.` : `Take ${-left} away.`}`;
  byId('selected').textContent = words;
  byId('choose').disabled = page.busy || same || left !== 0 || !host.callsTools;
  byId('again').disabled = page.busy || !host.callsTools;
}

async function choose() {
  await ask({ offer_ids: [...page.selected] }, false);
}

/** Also tells the agent: a plan that it does not know would not be what it rents. */
async function tellPlan() {
  const ids = page.plan.chosen;
  const words = `${ids.length > 1 ? 'Offers' : 'Offer'} ${ids.join(', ')} ${ids.length > 1 ? 'are' : 'is'} the plan now, ${perHour(page.plan.total_per_hour)} in all. This rented nothing.`;
  const told = await host.tell(forAgent(ids)).catch(() => false);
  say(told ? `${words} Your agent will see it.` : `${words} Tell your agent: use plan ${page.plan.plan_id}.`);
}

/** Figures and ids only: no text of other people goes to the agent from here. */
function forAgent(ids) {
  const plan = `plan_id ${page.plan.plan_id} of workflow ${page.workflowId}, offers ${ids.join(', ')}, ${perHour(page.plan.total_per_hour)} in all`;
  const next = page.agreed
    ? 'The yes that was given covers it: create_instances with this plan_id rents it.'
    : `The yes is still to be given; after it call find_offers with offer_ids [${ids.join(', ')}].`;
  return `On the offers page the user made another plan: ${plan}. This click rented nothing and agreed to nothing. ${next}`;
}

async function searchAgain() {
  await ask({ limit: MOST_ROWS }, true);
}

/** One call at a time; a refusal leaves the plan as it was. */
async function ask(given, all) {
  page.busy = true;
  clearTrouble();
  showSelected();
  say('Asking the server…');
  try {
    take(await host.call('find_offers', { workflow_id: page.workflowId, ...given }), all);
    await tellPlan();
  } catch (error) {
    say('The plan is as before.');
    showTrouble(error);
  } finally {
    page.busy = false;
    showSelected();
  }
}

const drawPlot = drawnIn(byId('plot'), (place, width) => {
  const rows = [...page.offers.values()].filter((row) => known(row.dlperf));
  byId('plot-words').textContent = plotWords(rows);
  byId('legend').hidden = rows.length === 0;
  if (rows.length === 0) return place.replaceChildren();
  const chart = scatter(rows, width);
  place.replaceChildren(chart.drawing);
  showLegend();
});

function scatter(rows, width) {
  const prices = rows.map((row) => row.price_per_hour);
  const scores = rows.map((row) => row.dlperf);
  const x = ticks(Math.min(...prices), Math.max(...prices, ceilingShown(prices) ?? 0), Math.max(3, Math.round(width / 110)));
  const y = ticks(Math.min(...scores), Math.max(...scores), 5);
  const chart = axes(
    width,
    PLOT_HEIGHT,
    { ticks: x, label: 'price, $/h', show: (value) => number(value, digitsOf(x)) },
    { ticks: y, label: 'DLPerf', show: (value) => number(value, digitsOf(y)) },
  );
  chart.drawing.setAttribute('aria-labelledby', 'chart-title');
  chart.drawing.setAttribute('aria-describedby', 'plot-words');
  const limit = ceilingShown(prices);
  if (limit !== null) {
    const [at] = chart.at(limit, y[0]);
    chart.drawing.append(svg('line', { class: 'ceiling', x1: at, x2: at, y1: chart.edge.top, y2: chart.edge.bottom }));
  }
  for (const row of [...rows].sort((a, b) => inPlan(a) - inPlan(b))) chart.drawing.append(pointOf(row, chart));
  return chart;
}

/** The ceiling where it lies near the prices; further out it would only squeeze them together. */
function ceilingShown(prices) {
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  return known(page.ceiling) && page.ceiling >= low && page.ceiling <= high + Math.max((high - low) / 2, high / 4) ? page.ceiling : null;
}

function pointOf(row, chart) {
  const [x, y] = chart.at(row.price_per_hour, row.dlperf);
  const words = `${nameOf(row)}, ${placeOf(row)}: ${perHour(row.price_per_hour)}, DLPerf ${number(row.dlperf, 1)}`;
  const group = svg('g', { class: inPlan(row) ? 'point plan' : 'point', on: { click: () => select(row.offer_id) } }, svg('title', {}, words));
  if (page.selected.has(row.offer_id)) group.append(svg('circle', { class: 'ring', cx: x, cy: y, r: 10 }));
  const shape = inPlan(row)
    ? svg('path', { d: `M${x} ${y - 7}L${x + 7} ${y}L${x} ${y + 7}L${x - 7} ${y}Z` })
    : svg('circle', { cx: x, cy: y, r: 5 });
  group.append(shape, svg('circle', { class: 'touch', cx: x, cy: y, r: 12 }));
  return group;
}

function showLegend() {
  const sign = (...shapes) => svg('svg', { width: 22, height: 22, viewBox: '-11 -11 22 22' }, ...shapes);
  const items = [
    [sign(svg('g', { class: 'point plan' }, svg('path', { d: 'M0 -7L7 0L0 7L-7 0Z' }))), 'the plan'],
    [sign(svg('g', { class: 'point' }, svg('circle', { r: 5 }))), 'other offers'],
    [sign(svg('circle', { class: 'ring', r: 9 })), 'selected'],
  ];
  if (byId('plot').querySelector('.ceiling')) {
    items.push([sign(svg('line', { class: 'ceiling', x1: 0, x2: 0, y1: -10, y2: 10 })), `your ceiling, ${perHour(page.ceiling)}`]);
  }
  byId('legend').replaceChildren(...items.map(([shape, words]) => el('li', {}, shape, words)));
}

/** The chart in words, for everybody. */
function plotWords(rows) {
  if (rows.length === 0) return 'The performance of these offers was not told, so there is no chart.';
  const [low, high] = [(of) => Math.min(...rows.map(of)), (of) => Math.max(...rows.map(of))];
  const price = (row) => row.price_per_hour;
  const score = (row) => row.dlperf;
  const best = rows.reduce((a, b) => (worth(b) > worth(a) ? b : a));
  const missing = page.offers.size - rows.length;
  const beyond = page.ceiling > high(price) && ceilingShown(rows.map(price)) === null;
  return [
    `${rows.length} offers from ${perHour(low(price))} to ${perHour(high(price))}, DLPerf ${number(low(score), 1)} to ${number(high(score), 1)}.`,
    `Most performance for the money: offer ${best.offer_id}, ${nameOf(best)} at ${perHour(best.price_per_hour)}, ${number(worth(best), 0)} DLPerf per $/h${inPlan(best) ? ', which is in the plan' : ''}.`,
    beyond ? `Your ceiling, ${perHour(page.ceiling)}, lies beyond the chart.` : '',
    missing > 0 ? `${missing} more have no score.` : '',
  ].filter(Boolean).join(' ');
}

byId('filter').addEventListener('input', showRows);
byId('show-all').addEventListener('click', () => {
  byId('filter').reset();
  showRows();
});
byId('filter').addEventListener('submit', (event) => event.preventDefault());
byId('choose').addEventListener('click', choose);
byId('again').addEventListener('click', searchAgain);

start('vastai-workflow offers', {
  onInput: (given) => { page.workflowId = given.workflow_id ?? null; },
  onResult: (result) => {
    take(result, true);
    say(`${page.matches} offers fit.`);
  },
  onFailed: (error) => {
    say(page.plan ? 'The plan is as before.' : 'There are no offers to show.');
    showTrouble(error);
  },
});
