// The figures of a symbol: the columns of the overview, and how each is shown.
import * as format from './format.js'
import { h } from './dom.js'
import { symbolAddress } from './router.js'

const word = (value) => value ?? format.UNKNOWN
const streak = (value) => (value > 0 ? `+${format.count(value)}` : format.count(value))

// kind → [text of a value, width of its column in the screener]
const KINDS = {
  symbol: [word, 110],
  price: [format.price, 112],
  average: [format.average, 112],
  change: [format.change, 104],
  percent: [format.percent, 104],
  ratio: [format.ratio, 104],
  number: [format.number, 104],
  count: [format.count, 132],
  streak: [streak, 88],
  date: [word, 118],
  word: [word, 92],
}

// A figure that the data has and this list lacks is shown as a number under its own name.
export const FIGURES = [
  { key: 'symbol', label: 'Symbol', kind: 'symbol', about: 'Ticker' },
  { key: 'close', label: 'Close', kind: 'price', group: 'Price', about: 'Last close' },
  { key: 'change_1d', label: '1 day', kind: 'change', group: 'Change', about: 'Change against the previous session' },
  { key: 'change_1w', label: '1 week', kind: 'change', group: 'Change', about: 'Change over a week' },
  { key: 'change_1m', label: '1 month', kind: 'change', group: 'Change', about: 'Change over a month' },
  { key: 'change_3m', label: '3 months', kind: 'change', group: 'Change', about: 'Change over three months' },
  { key: 'change_ytd', label: 'This year', kind: 'change', group: 'Change', about: 'Change since the last close of the year before' },
  { key: 'change_1y', label: '1 year', kind: 'change', group: 'Change', about: 'Change over a year' },
  { key: 'volume', label: 'Volume', kind: 'count', group: 'Volume', about: 'Shares of the last session' },
  { key: 'volume_ratio', label: 'Vol. ratio', kind: 'ratio', group: 'Volume', about: 'Volume against its mean of 20 sessions' },
  { key: 'high_52w', label: '52w high', kind: 'price', group: 'Range', about: 'Highest high of 52 weeks' },
  { key: 'low_52w', label: '52w low', kind: 'price', group: 'Range', about: 'Lowest low of 52 weeks' },
  { key: 'place_52w', label: '52w place', kind: 'number', group: 'Range', about: 'Place between the 52-week low (0) and high (1)' },
  { key: 'range_pct', label: 'Day range', kind: 'percent', group: 'Range', about: 'High less low of the last session against its close' },
  { key: 'volatility_20', label: 'Volatility', kind: 'percent', group: 'Risk', about: 'Annualized volatility of 20 sessions' },
  { key: 'rsi_14', label: 'RSI 14', kind: 'number', group: 'Trend', about: 'Relative strength index of 14 sessions, by Wilder' },
  { key: 'streak', label: 'Streak', kind: 'streak', group: 'Trend', about: 'Sessions in a row that closed higher (or lower)' },
  { key: 'sma_20', label: 'Avg. 20', kind: 'average', group: 'Trend', about: 'Mean close of 20 sessions' },
  { key: 'sma_50', label: 'Avg. 50', kind: 'average', group: 'Trend', about: 'Mean close of 50 sessions' },
  { key: 'sma_200', label: 'Avg. 200', kind: 'average', group: 'Trend', about: 'Mean close of 200 sessions' },
  { key: 'distance_50', label: 'To avg. 50', kind: 'change', group: 'Trend', about: 'Distance of the close to its mean of 50 sessions' },
  { key: 'cross', label: 'Cross', kind: 'word', group: 'Trend', about: 'Last cross of the means of 50 and 200 sessions: golden is upward, death is downward' },
  { key: 'cross_date', label: 'Crossed', kind: 'date', group: 'Trend', about: 'Session of the last cross' },
  { key: 'sessions', label: 'Sessions', kind: 'count', group: 'History', about: 'Stored sessions' },
  { key: 'first', label: 'First', kind: 'date', group: 'History', about: 'First stored session' },
  { key: 'last', label: 'Last', kind: 'date', group: 'History', about: 'Last stored session' },
]

const BY_KEY = new Map(FIGURES.map((figure) => [figure.key, figure]))

export function figure(key) {
  return BY_KEY.get(key) ?? { key, label: key.replaceAll('_', ' '), kind: 'number', group: 'Other', about: key.replaceAll('_', ' ') }
}

export const text = (key, value) => KINDS[figure(key).kind][0](value)
export const width = (key) => KINDS[figure(key).kind][1]
export const isExact = (key) => figure(key).kind === 'price'
export const isNumber = (key) => !['symbol', 'date', 'word'].includes(figure(key).kind)
const isSigned = (key) => ['change', 'streak'].includes(figure(key).kind)

// What stands in a cell: text, or an element where a symbol is linked or a direction is colored.
export function shown(key, value) {
  const { kind } = figure(key)
  if (kind === 'symbol') return symbolLink(value)
  if (!isSigned(key)) return text(key, value)
  const way = kind === 'streak' ? (value > 0 ? 'rise' : value < 0 ? 'fall' : 'flat') : format.direction(value)
  return h('span', { class: way }, arrow(way), text(key, value))
}

export const symbolLink = (symbol) => h('a', { class: 'ticker', href: symbolAddress(symbol) }, symbol)

export function arrow(way) {
  const sign = { rise: '▲', fall: '▼' }[way]
  return sign ? h('span', { class: 'arrow', 'aria-hidden': 'true' }, sign) : null
}

export const changed = (value) => {
  const way = format.direction(value)
  return h('span', { class: `change ${way}` }, arrow(way), format.change(value))
}
