// What the market did: tiles, the best and the worst, unusual volume, and breadth over time.
import { h } from '../dom.js'
import { loadJson, siteIndex } from '../data.js'
import * as format from '../format.js'
import { changed, symbolLink, text } from '../figures.js'
import { panel } from '../panel.js'
import { symbolPrices } from '../parquet.js'
import { address, symbolAddress } from '../router.js'
import { sparkline } from '../spark.js'
import { breadthChart } from '../breadth.js'

export function overviewPage() {
  const charts = []
  const summary = panel(() => loadJson('summary'), (data) => [tiles(data), data.symbols?.length ? cards(data.symbols) : movers(data)], { className: 'bare', label: 'Summary' })
  const breadth = panel(() => loadJson('breadth'), (data) => {
    const drawn = breadthChart(data)
    charts.push(drawn)
    return [h('h2', {}, 'Breadth over time'), drawn.root]
  }, { className: 'card', label: 'Breadth over time' })
  return {
    title: 'Overview',
    content: [h('h1', { class: 'sr' }, `The market on ${format.day(siteIndex().last)}`), summary, breadth],
    leave: () => charts.forEach((chart) => chart.remove()),
  }
}

function tiles({ tiles: given = {} }) {
  const { completeness = {} } = given
  const missing = completeness.missing ?? 0
  const again = completeness.read_again ?? 0
  return h('div', { class: 'tiles' },
    tile('Last session', format.day(given.last_session), `${format.count(given.symbols)} symbols`),
    h('div', { class: 'tile wide' },
      h('div', { class: 'tile-label' }, 'Rose and fell'),
      h('div', { class: 'tile-value' },
        h('span', { class: 'rise' }, h('span', { class: 'arrow', 'aria-hidden': 'true' }, '▲'), format.count(given.advancers), h('span', { class: 'sr' }, ' rose')), ' ',
        h('span', { class: 'fall' }, h('span', { class: 'arrow', 'aria-hidden': 'true' }, '▼'), format.count(given.decliners), h('span', { class: 'sr' }, ' fell'))),
      h('div', { class: 'balance', 'aria-hidden': 'true' },
        h('i', { class: 'rise-bar', style: { 'flex-grow': String(given.advancers ?? 0) } }),
        h('i', { class: 'flat-bar', style: { 'flex-grow': String(given.unchanged ?? 0) } }),
        h('i', { class: 'fall-bar', style: { 'flex-grow': String(given.decliners ?? 0) } })),
      h('div', { class: 'tile-note' }, `${format.count(given.unchanged)} unchanged`)),
    tile('New 52-week highs', format.count(given.new_highs), given.new_highs == null ? 'needs 52 weeks' : `${format.count(given.new_lows)} new lows`),
    tile('Above 50-session average', format.share(given.above_50), given.above_50 == null ? 'needs 50 sessions' : 'of symbols'),
    tile('Above 200-session average', format.share(given.above_200), given.above_200 == null ? 'needs 200 sessions' : 'of symbols'),
    h('a', { class: 'tile', href: address('data') },
      h('div', { class: 'tile-label' }, 'Data'),
      h('div', { class: 'tile-value' }, missing ? `${format.count(missing)} missing` : 'Complete'),
      h('div', { class: 'tile-note' }, again ? `${format.count(again)} to be read again` : 'nothing to be read again')))
}

const tile = (label, value, note) => h('div', { class: 'tile' }, h('div', { class: 'tile-label' }, label), h('div', { class: 'tile-value' }, value), h('div', { class: 'tile-note' }, note))

// Few symbols: a card for each, the best of the day first.
function cards(symbols) {
  const ordered = [...symbols].sort((one, other) => (other.change_1d ?? -Infinity) - (one.change_1d ?? -Infinity))
  return h('div', { class: 'section' },
    h('div', { class: 'heading' }, h('h2', {}, 'Symbols'), h('span', { class: 'note' }, 'The best of the last session first; 60 closes each')),
    h('ul', { class: 'cards' }, ordered.map(card)))
}

function card(row) {
  const way = format.direction(row.change_1d)
  return h('li', { class: `card symbol-card ${way}-edge` },
    h('div', { class: 'card-head' },
      h('h3', {}, h('a', { class: 'cover', href: symbolAddress(row.symbol) }, row.symbol)),
      h('div', { class: 'card-price' }, h('span', { class: 'close' }, format.price(row.close)), changed(row.change_1d))),
    sparkline(row.spark),
    h('dl', { class: 'facts' },
      ['change_1w', 'change_1m', 'change_ytd'].map((key) => fact({ change_1w: 'Week', change_1m: 'Month', change_ytd: 'Year to date' }[key], changed(row[key]))),
      fact('Volume', text('volume_ratio', row.volume_ratio)),
      fact('RSI 14', text('rsi_14', row.rsi_14)),
      fact('Volatility', text('volatility_20', row.volatility_20))),
    rangeBar(row))
}

const fact = (label, value) => h('div', {}, h('dt', {}, label), h('dd', {}, value))

// Where the close lies between the lowest low and the highest high of 52 weeks.
export function rangeBar(row) {
  const place = row.place_52w
  if (place === null || place === undefined) return null
  return h('div', { class: 'range', role: 'img', title: `Low and high, ${format.yearSpan(row)}`, 'aria-label': `${format.yearSpan(row)}: low ${format.price(row.low_52w)}, high ${format.price(row.high_52w)}, the close lies at ${format.share(place)} between them` },
    h('span', {}, format.price(row.low_52w)),
    h('span', { class: 'track' }, h('i', { style: { left: `${place * 100}%` } })),
    h('span', {}, format.price(row.high_52w)))
}

function movers(data) {
  const [likely] = data.best ?? []
  if (likely) setTimeout(() => prepare(likely.symbol), IDLE)
  return h('div', { class: 'columns section' },
    list('Best', data.best, (row) => changed(row.change_1d), '-change_1d'),
    list('Worst', data.worst, (row) => changed(row.change_1d), 'change_1d'),
    list('Most unusual volume', data.unusual_volume, (row) => h('span', { class: 'strong' }, format.ratio(row.volume_ratio)), '-volume_ratio'))
}

// Fetch the prices that are the likeliest to be asked for next, while nobody waits: a browser takes the longest to decode
// the first ones.
const IDLE = 300 // ms after the page is drawn
function prepare(symbol) {
  symbolPrices(symbol).catch(() => {}) // whoever needs them asks again, and says what is wrong
}

function list(title, rows = [], last, sort) {
  return h('section', { class: 'card movers', 'aria-label': title },
    h('div', { class: 'heading' }, h('h2', {}, title), h('a', { class: 'more', href: address('screener', '', { sort }) }, 'All', h('span', { class: 'sr' }, ` by ${title.toLowerCase()}`))),
    rows.length ? h('ol', {}, rows.map((row) => h('li', {},
      symbolLink(row.symbol),
      sparkline(row.spark),
      h('span', { class: 'close' }, format.price(row.close)),
      last(row)))) : h('p', { class: 'note' }, 'None in the last session.'))
}
