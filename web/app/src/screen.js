// Filter and sort the overview's columns. Pure: no page, so that it can be measured and tested alone.
import { figure, isNumber } from './figures.js'

const RESERVED = new Set(['q', 'sort', 'columns'])
export const DEFAULT_COLUMNS = ['symbol', 'close', 'change_1d', 'change_1w', 'change_1m', 'change_ytd', 'volume', 'volume_ratio', 'place_52w', 'rsi_14', 'volatility_20']

// The state in an address: { q, sort: { key, down }, columns, filters: [{ key, low, high } | { key, is }], wrong: [line] }.
export function fromQuery(query, known) {
  const state = { q: query.get('q') ?? '', sort: { key: 'symbol', down: false }, columns: DEFAULT_COLUMNS.filter((key) => known.includes(key)), filters: [], wrong: [] }
  const sort = query.get('sort')
  if (sort) {
    const key = sort.replace(/^-/, '')
    if (known.includes(key)) state.sort = { key, down: sort.startsWith('-') }
    else state.wrong.push(`There is no figure “${key}” to sort by.`)
  }
  const columns = query.get('columns')?.split(',').filter(Boolean)
  if (columns) {
    const wrong = columns.filter((key) => !known.includes(key))
    if (wrong.length) state.wrong.push(`There is no figure “${wrong.join('”, “')}” to show.`)
    state.columns = ['symbol', ...columns.filter((key) => key !== 'symbol' && known.includes(key))]
  }
  for (const [key, text] of query) {
    if (RESERVED.has(key)) continue
    if (!known.includes(key)) state.wrong.push(`There is no figure “${key}” to filter by.`)
    else {
      const filter = parseFilter(key, text)
      if (filter) state.filters.push(filter)
      else state.wrong.push(`The filter ${key}=${text} is left out; valid is a range such as 5..10, 5.. or ..10.`)
    }
  }
  return state
}

// A number may end in K, M or B.
export function parseNumber(text) {
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))([KMB]?)$/i.exec(text.trim().replaceAll(',', '').replace('−', '-'))
  return match ? Number(match[1]) * { '': 1, K: 1e3, M: 1e6, B: 1e9 }[match[2].toUpperCase()] : null
}

function parseFilter(key, text) {
  if (!isNumber(key)) {
    if (figure(key).kind !== 'date') return { key, is: text }
    const match = /^(\d{4}-\d\d-\d\d)?\.\.(\d{4}-\d\d-\d\d)?$/.exec(text)
    return match && (match[1] || match[2]) ? { key, low: match[1] ?? null, high: match[2] ?? null } : null
  }
  const match = /^(.*?)\.\.(?!\.)(.*)$/.exec(text)
  if (!match) return null
  const [low, high] = [match[1], match[2]].map((part) => (part === '' ? null : parseNumber(part) ?? NaN))
  return Number.isNaN(low) || Number.isNaN(high) || (low === null && high === null) ? null : { key, low, high }
}

export function toQuery(state) {
  const query = {}
  if (state.q) query.q = state.q
  for (const filter of state.filters) {
    if (filter.is !== undefined) { if (filter.is) query[filter.key] = filter.is }
    else if (filter.low !== null || filter.high !== null) query[filter.key] = `${filter.low ?? ''}..${filter.high ?? ''}`
  }
  if (state.sort.key !== 'symbol' || state.sort.down) query.sort = `${state.sort.down ? '-' : ''}${state.sort.key}`
  if (state.columns.join() !== DEFAULT_COLUMNS.join()) query.columns = state.columns.filter((key) => key !== 'symbol').join(',')
  return query
}

const uppers = new WeakMap()

function upper(symbols) {
  if (!uppers.has(symbols)) uppers.set(symbols, symbols.map((symbol) => symbol.toUpperCase()))
  return uppers.get(symbols)
}

// The rows that pass, in order: their places in the columns. An unknown value passes no filter and comes last.
export function screen(columns, state) {
  const count = columns.symbol.length
  let rows = new Uint32Array(count)
  let kept = 0
  const typed = state.q.trim().toUpperCase()
  const names = typed ? upper(columns.symbol) : []
  const tests = state.filters.filter((filter) => filter.is || filter.low !== null && filter.low !== undefined || filter.high !== null && filter.high !== undefined)
    .map((filter) => ({ ...filter, values: columns[filter.key] }))
  next: for (let row = 0; row < count; row++) {
    if (typed && !names[row].includes(typed)) continue
    for (const { values, low, high, is } of tests) {
      const value = values[row]
      if (value === null) continue next
      if (is !== undefined ? value !== is : (low !== null && value < low) || (high !== null && value > high)) continue next
    }
    rows[kept++] = row
  }
  rows = rows.subarray(0, kept)
  if (state.sort.key === 'symbol') return state.sort.down ? rows.reverse() : rows // the file is in their order
  const values = columns[state.sort.key]
  const way = state.sort.down ? -1 : 1
  return rows.sort((one, other) => {
    const a = values[one]
    const b = values[other]
    if (a === b) return one - other
    if (a === null) return 1
    if (b === null) return -1
    return a < b ? -way : way
  })
}
