// One symbol: candles with volume and averages, its figures, and its rows.
import { CandlestickSeries, HistogramSeries, LineSeries, createSeriesMarkers } from 'lightweight-charts'
import { PriceScaleMode, sessionChart } from '../chart.js'
import { loadJson } from '../data.js'
import { download, h } from '../dom.js'
import * as format from '../format.js'
import { FIGURES, changed, figure, shown } from '../figures.js'
import { panel, problem } from '../panel.js'
import { symbolFigures, symbolPrices } from '../parquet.js'
import { address, replace } from '../router.js'
import { symbolInput } from '../search.js'
import { statesOf } from '../states.js'
import { columnWidth, virtualTable } from '../table.js'
import { color } from '../theme.js'
import { rangeBar } from './overview.js'

const RANGES = [['1m', 1], ['3m', 3], ['6m', 6], ['1y', 12], ['all', null]]
const AVERAGES = [['rolling_avg', 'Avg. 5', 'line-3'], ['sma_20', 'Avg. 20', 'line-1'], ['sma_50', 'Avg. 50', 'line-2'], ['sma_200', 'Avg. 200', 'line-4']]

export function symbolPage({ argument: symbol, query }) {
  let drawn = null
  let left = false
  const rest = h('div', {})
  const head = h('div', { class: 'symbol-head' }, h('h1', {}, symbol || 'No symbol'))
  const chart = panel(async () => {
    const started = performance.now()
    const prices = await symbolPrices(symbol)
    return { prices, started }
  }, ({ prices, started }, retry) => {
    if (!prices.date?.length) return unknown(symbol)
    if (left) return []
    drawn?.remove()
    headline(head, symbol, prices)
    drawn = priceChart(symbol, prices, query)
    performance.measure('chart', { start: started })
    // The rest waits until the frame after the one that paints the chart.
    requestAnimationFrame(() => requestAnimationFrame(() => left || chartRest(rest, symbol, () => drawn)))
    return [prices.problems.map((error) => problem(error, retry)), drawn.root]
  }, { className: 'card', label: 'Chart' })

  return {
    title: symbol || 'Symbol',
    content: [head, chart, rest],
    leave: () => { left = true; drawn?.remove() },
  }
}

function unknown(symbol) {
  const named = symbol.length > 40 ? `${symbol.slice(0, 40)}…` : symbol
  return h('div', { class: 'empty' },
    h('p', {}, named ? ['No prices of ', h('b', {}, named), ' are stored.'] : 'The address names no symbol.', ' Find one in the box above, or in the ', h('a', { href: '#/screener' }, 'screener'), '.'))
}

function headline(head, symbol, prices) {
  const last = prices.date.length - 1
  head.replaceChildren(
    h('h1', {}, symbol),
    h('span', { class: 'close large' }, format.price(prices.close[last])),
    changed(prices.daily_pct_change?.[last]),
    h('span', { class: 'note' }, format.day(prices.date[last])))
}

function priceChart(symbol, prices, query) {
  const { date: dates } = prices
  const averages = AVERAGES.filter(([key]) => prices[key]?.some((value) => value !== null))
  const state = {
    range: RANGES.some(([name]) => name === query.get('range')) ? query.get('range') : '1y',
    log: query.get('scale') === 'log',
    with: query.get('with') ?? '',
    hidden: new Set((query.get('hide') ?? '').split(',').filter(Boolean)),
  }
  let other = null // { symbol, closes: Map of date → close, series }

  const drawn = sessionChart({
    label: `${symbol}: daily candles and volume of ${dates.length} sessions, ${format.day(dates[0])} to ${format.day(dates.at(-1))}`,
    className: 'price',
    dates,
    read: (row) => [
      ['Open', format.price(prices.open[row])], ['High', format.price(prices.high[row])], ['Low', format.price(prices.low[row])], ['Close', format.price(prices.close[row])],
      ['Change', format.change(prices.daily_pct_change?.[row]), format.direction(prices.daily_pct_change?.[row])],
      ['Volume', format.count(prices.volume[row])],
      ...averages.filter(([key]) => !state.hidden.has(key)).map(([key, name, paint]) => [name, format.average(prices[key][row]), paint]),
      ...(other ? [[other.symbol, format.price(other.closes.get(dates[row])), 'line-5']] : []),
    ],
    onmove: () => press(null),
  })
  const { chart, scale } = drawn
  const least = Math.min(...prices.low.filter((value) => value > 0))
  const priceFormat = { type: 'price', minMove: least < 1 ? 0.0001 : 0.01, precision: least < 1 ? 4 : 2 }
  const candles = chart.addSeries(CandlestickSeries, { priceFormat, priceLineVisible: false })
  candles.setData(dates.map((time, row) => (prices.close[row] === null ? { time } : { time, open: prices.open[row], high: prices.high[row], low: prices.low[row], close: prices.close[row] })))
  const volume = chart.addSeries(HistogramSeries, { priceFormat: { type: 'custom', minMove: 1, formatter: format.short }, priceLineVisible: false, lastValueVisible: false }, 1)
  const lines = averages.map(([key, , paint]) => {
    const series = chart.addSeries(LineSeries, { priceFormat, lineWidth: 1.5, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false, visible: !state.hidden.has(key) })
    series.setData(dates.map((time, row) => (prices[key][row] === null ? { time } : { time, value: prices[key][row] })))
    drawn.painted(() => series.applyOptions({ color: color(paint) }))
    return [key, series]
  })
  drawn.painted(() => {
    const [rise, fall] = [color('rise-candle'), color('fall-candle')]
    candles.applyOptions({ upColor: rise, downColor: fall, wickUpColor: rise, wickDownColor: fall, borderVisible: false })
    volume.applyOptions({ color: color('volume') })
    volume.setData(dates.map((time, row) => ({ time, value: Number(prices.volume[row] ?? 0), color: prices.close[row] < prices.open[row] ? color('fall-volume') : color('rise-volume') })))
  })
  chart.panes().forEach((pane, at) => pane.setStretchFactor([4, 1][at]))
  drawn.follow(candles, prices.close)

  // -- Controls
  const buttons = RANGES.map(([name]) => h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => { state.range = name; showRange(); remember() } }, name === 'all' ? 'All' : name))
  const logButton = toggle('Log', state.log, (on) => { state.log = on; showScale(); remember() })
  const averageButtons = averages.map(([key, name, paint]) => toggle([h('i', { class: `swatch ${paint}-fill`, 'aria-hidden': 'true' }), name], !state.hidden.has(key), (on) => {
    state.hidden[on ? 'delete' : 'add'](key)
    lines.find(([each]) => each === key)[1].applyOptions({ visible: on })
    drawn.refresh()
    remember()
  }))
  const compare = symbolInput({ id: 'compare', label: 'Compare with a symbol, in percent', placeholder: 'Compare with…', choose: (chosen) => { state.with = chosen; showOther(); remember() } })
  compare.input.value = state.with
  compare.input.addEventListener('search', () => { if (!compare.input.value && state.with) { state.with = ''; showOther(); remember() } })
  const message = h('div', { class: 'message', 'aria-live': 'polite' })

  function press(name) { buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(RANGES[at][0] === name))) }

  function showRange() {
    press(state.range)
    const months = RANGES.find(([name]) => name === state.range)[1]
    const first = months === null ? 0 : firstWithin(dates, months)
    scale.setVisibleLogicalRange({ from: first - 0.5, to: dates.length + 1 })
  }

  function showScale() {
    const mode = other ? PriceScaleMode.Percentage : state.log ? PriceScaleMode.Logarithmic : PriceScaleMode.Normal
    chart.priceScale('right', 0).applyOptions({ mode })
    logButton.disabled = other !== null
  }

  async function showOther() {
    message.replaceChildren()
    const wanted = state.with
    let found = null
    if (wanted && wanted !== symbol) {
      try {
        found = await symbolPrices(wanted)
      } catch (error) {
        message.replaceChildren(problem(error, showOther))
      }
      if (state.with !== wanted || removed) return
      if (found && !found.date?.length) {
        message.replaceChildren(h('p', { class: 'note' }, `No prices of ${wanted.slice(0, 40)} are stored.`))
        found = null
      }
    } else if (wanted) message.replaceChildren(h('p', { class: 'note' }, 'A symbol is compared with another one.'))
    if (other) chart.removeSeries(other.series)
    other = null
    if (found) {
      const closes = new Map(found.date.map((date, row) => [date, found.close[row]]))
      const series = chart.addSeries(LineSeries, { priceFormat, color: color('line-5'), lineWidth: 2, priceLineVisible: false, title: wanted })
      series.setData(dates.map((time) => (closes.has(time) && closes.get(time) !== null ? { time, value: closes.get(time) } : { time })))
      other = { symbol: wanted, closes, series }
      message.replaceChildren(h('p', { class: 'note' }, `Both in percent since the first session in view.`))
    }
    showScale()
    drawn.refresh()
  }
  drawn.painted(() => other?.series.applyOptions({ color: color('line-5') }))

  function remember() {
    replace(address('symbol', symbol, { range: state.range === '1y' ? null : state.range, scale: state.log ? 'log' : null, with: state.with, hide: [...state.hidden].join(',') }))
  }

  let removed = false
  drawn.start(showRange)
  showScale()
  if (state.with) showOther()

  const markers = createSeriesMarkers(candles, [])
  return {
    root: Object.assign(h('div', {},
      h('div', { class: 'toolbar' },
        h('div', { class: 'segments', role: 'group', 'aria-label': 'Range' }, buttons),
        h('div', { class: 'segments', role: 'group', 'aria-label': 'Scale' }, logButton),
        averageButtons.length > 0 && h('div', { class: 'segments averages', role: 'group', 'aria-label': 'Averages' }, averageButtons),
        h('span', { class: 'push' }, compare.root)),
      message, drawn.root), { attached: drawn.attached }),
    // marks: [{ date, text, kind: 'split' | 'corrected' }]
    mark(marks) {
      const place = () => markers.setMarkers(marks.map(({ date, text, kind }) => ({
        time: date, text, position: kind === 'split' ? 'aboveBar' : 'belowBar', shape: kind === 'split' ? 'arrowDown' : 'square', size: kind === 'split' ? 1 : 0.6, color: color('ink'),
      })))
      drawn.painted(place)
    },
    prices,
    remove() { removed = true; drawn.remove() },
  }
}

function toggle(content, on, change) {
  const button = h('button', { type: 'button', 'aria-pressed': String(on), onclick: () => {
    const next = button.getAttribute('aria-pressed') !== 'true'
    button.setAttribute('aria-pressed', String(next))
    change(next)
  } }, content)
  return button
}

// The first row within so many months before the last one.
function firstWithin(dates, months) {
  const [year, month, date] = dates.at(-1).split('-').map(Number)
  const total = year * 12 + month - 1 - months
  const start = `${Math.floor(total / 12)}-${String((total % 12) + 1).padStart(2, '0')}-${String(date).padStart(2, '0')}`
  return Math.max(0, dates.findIndex((each) => each >= start))
}

function chartRest(rest, symbol, chart) {
  const { prices } = chart()
  const figures = panel(() => symbolFigures(symbol), (row) => [h('h2', {}, 'Figures'), row ? figureList(row) : h('p', { class: 'note' }, `The overview holds no figures of ${symbol}.`)], { className: 'card', label: 'Figures' })
  const history = panel(async () => {
    const [state, calendar] = await Promise.all([loadJson('state'), loadJson('calendar')])
    return { state, calendar }
  }, ({ state, calendar }) => {
    const of = (list) => (list ?? []).filter((entry) => entry.symbol === symbol)
    const stored = new Set(prices.date)
    const splits = of(state.splits).map((split) => ({ date: split.date, kind: 'split', text: `Split ${split.split_to}:${split.split_from}` }))
    const corrected = statesOf(calendar, symbol).filter(({ letter }) => letter === 'c').flatMap(({ sessions }) => sessions)
    const dates = new Set([...corrected, ...of(state.corrections).filter(({ bars }) => bars === 1).map((each) => each.date)])
    const marks = [...splits, ...[...dates].map((date) => ({ date, kind: 'corrected', text: dates.size > 6 ? '' : 'Corrected' }))]
      .filter(({ date }) => stored.has(date)).sort((one, other) => (one.date < other.date ? -1 : 1))
    chart().mark(marks)
    return [h('h2', {}, 'History of the data'), ...historyList(symbol, of(state.splits), [...dates].sort(), of(state.corrections), of(state.rejected))]
  }, { className: 'card', label: 'History of the data' })
  rest.replaceChildren(h('div', { class: 'columns two' }, figures, history), rowsTable(symbol, prices))
}

function figureList(row) {
  const short = format.yearSpan(row) !== '52 weeks'
  const groups = Object.entries(Object.groupBy ? Object.groupBy(FIGURES, ({ group }) => group ?? '') : { Figures: FIGURES })
  return [
    row.place_52w !== null && h('div', { class: 'note' }, `Low and high, ${format.yearSpan(row)}`),
    rangeBar(row),
    h('div', { class: 'figure-groups' }, groups.filter(([, members]) => members.some(({ key }) => key in row && key !== 'symbol' && key !== 'close'))
      .map(([name, members]) => h('div', {}, h('h3', {}, short && name === 'Range' ? `Range ${format.yearSpan(row)}` : name), h('dl', { class: 'figures' },
        members.filter(({ key }) => key in row).map(({ key }) => h('div', { title: figure(key).about }, h('dt', {}, short ? figure(key).label.replace(/^52w (.)/, (_, letter) => letter.toUpperCase()) : figure(key).label), h('dd', {}, shown(key, row[key])))))))),
  ]
}

function historyList(symbol, splits, corrected, details, rejected) {
  const lines = [
    ...splits.map((split) => [split.date, `Split ${split.split_to} for ${split.split_from}; earlier prices are adjusted.`]),
    ...details.map((each) => [each.date, correctionText(each)]),
    ...corrected.filter((date) => !details.some((each) => each.date === date)).map((date) => [date, 'Corrected by the provider.']),
    ...rejected.map((bar) => [bar.date, `Bar rejected: ${bar.reason}`]),
  ].sort(([one], [other]) => (one < other ? 1 : -1))
  const link = h('p', {}, h('a', { href: address('data', '', { symbol }) }, 'Calendar of what is stored'))
  if (!lines.length) return [h('p', { class: 'note' }, 'No splits, corrections or rejected bars.'), link]
  return [h('ol', { class: 'events' }, lines.slice(0, 50).map(([date, text]) => h('li', {}, h('time', { datetime: date }, date), h('span', {}, text)))), link]
}

export function correctionText({ from, to, cause, bars }) {
  if (bars > 1) return `${cause} with ${format.count(bars - 1)} earlier bars: close ${format.price(from.close)} → ${format.price(to.close)}`
  const different = ['open', 'high', 'low', 'close'].filter((key) => from[key] !== to[key])
  return `${cause}: ${different.map((key) => `${key} ${format.price(from[key])} → ${format.price(to[key])}`).join(', ')}`
}

const ROW_COLUMNS = [
  ['date', 'Session', format.day, 130], ['open', 'Open', format.price, 110], ['high', 'High', format.price, 110], ['low', 'Low', format.price, 110], ['close', 'Close', format.price, 110],
  ['volume', 'Volume', format.count, 140], ['daily_pct_change', 'Change', null, 110], ['rolling_avg', 'Avg. 5', format.average, 110], ['volatility', 'Range', format.percent, 100],
]

function rowsTable(symbol, prices) {
  const { date } = prices
  const last = date.length - 1
  const grid = virtualTable(`Prices of ${symbol}, the latest first`)
  grid.update({ count: date.length, columns: ROW_COLUMNS.filter(([key]) => prices[key]).map(([key, label, show, width]) => ({
    key, label, width: columnWidth(prices[key], show ?? format.change, width, { exact: show === format.price }), number: key !== 'date', about: '',
    cell: (row) => {
      const value = prices[key][last - row]
      return show ? show(value) : changed(value)
    },
  })) })
  const save = () => {
    const keys = ['symbol', ...ROW_COLUMNS.map(([key]) => key).filter((key) => prices[key])]
    download(`${symbol.replace(/[^\w.-]/g, '_')}.csv`, format.csv(keys, date.map((_, row) => keys.map((key) => (key === 'symbol' ? symbol : prices[key][row])))))
  }
  return h('section', { class: 'card', 'aria-label': 'Rows' },
    h('div', { class: 'heading' }, h('h2', {}, 'Rows'), h('button', { type: 'button', onclick: save }, 'CSV')), grid.root)
}
