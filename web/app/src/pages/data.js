// The state of the data: what is stored, provisional, missing and corrected; rejected bars; the last runs.
import { h, svg } from '../dom.js'
import { loadJson, siteIndex } from '../data.js'
import * as format from '../format.js'
import { panel } from '../panel.js'
import { address, replace, symbolAddress } from '../router.js'
import { symbolInput } from '../search.js'
import { STATES, runsOf, stateOf, statesOf } from '../states.js'
import { table, virtualTable } from '../table.js'
import { correctionText } from './symbol.js'

const MONTHS_SHOWN = 12

export function dataPage({ query }) {
  let symbol = query.get('symbol') ?? ''
  const loadState = () => loadJson('state')
  const calendar = panel(() => loadJson('calendar'), (data) => drawCalendar(data, symbol, (chosen) => {
    symbol = chosen
    replace(address('data', '', { symbol }))
  }), { className: 'card', label: 'Calendar' })
  return {
    title: 'Data',
    content: [
      h('h1', {}, 'Data'),
      panel(loadState, totals, { className: 'bare', label: 'Totals' }),
      calendar,
      panel(async () => [await loadState(), await loadJson('calendar')], bySymbol, { className: 'card', label: 'By symbol' }),
      panel(loadState, corrections, { className: 'card', label: 'Corrections' }),
      panel(loadState, rejected, { className: 'card', label: 'Rejected bars' }),
      panel(loadState, runs, { className: 'card', label: 'Runs' }),
    ],
  }
}

function totals(state) {
  const { totals: sums = {} } = state
  const index = siteIndex()
  const tile = (label, value, note = '') => h('div', { class: 'tile' }, h('div', { class: 'tile-label' }, label), h('div', { class: 'tile-value' }, value), h('div', { class: 'tile-note' }, note))
  return h('div', { class: 'tiles' },
    tile('Rows', format.count(sums.rows), `${format.count(index.symbols)} symbols`),
    tile('Sessions', format.count(index.sessions.length), index.first ? `${index.first} to ${index.last}` : ''),
    tile('Missing', format.count(sums.missing), sums.missing ? 'fetched by the next run' : 'nothing'),
    tile('To be read again', format.count(sums.read_again), sums.read_again ? 'by the next update' : 'nothing'),
    tile('Oldest reading', state.oldest_reading ? format.day(state.oldest_reading) : format.UNKNOWN, 'audited every week'),
    tile('Published', format.day(index.published_at), format.moment(index.published_at).slice(11)))
}

function drawCalendar(calendar, symbol, remember) {
  const months = h('div', { class: 'months' })
  const title = h('span', { class: 'note' })
  const pick = symbolInput({ id: 'calendar-symbol', label: 'Symbol of the calendar', placeholder: 'All symbols', choose: show })
  const earlier = h('button', { type: 'button', hidden: true, onclick: () => { shown += MONTHS_SHOWN; draw() } }, 'Show earlier months')
  let shown = MONTHS_SHOWN
  let chosen = symbol

  function show(next) {
    chosen = next
    remember(next)
    draw()
  }

  function draw() {
    const own = calendar.symbols?.[chosen]
    pick.input.value = chosen
    title.textContent = !chosen ? 'All symbols: the most common state of each session' : own ? chosen : `${chosen.slice(0, 40)}: as the whole`
    const all = byMonth(statesOf(calendar, chosen))
    earlier.hidden = all.length <= shown
    months.replaceChildren(...all.slice(-shown).map(monthTable))
  }

  draw()
  pick.input.addEventListener('search', () => { if (!pick.input.value && chosen) show('') })
  const used = new Set([...runsOf(calendar), ...Object.values(calendar.symbols ?? {}).flat()].map(([letter]) => letter))
  return [
    h('div', { class: 'heading' }, h('h2', {}, 'Calendar'), title, h('span', { class: 'push' }, pick.root)),
    h('ul', { class: 'key', 'aria-label': 'States' }, Object.entries(STATES).filter(([letter]) => used.has(letter) || letter === 's').map(([, [name, label, about]]) =>
      h('li', { title: about }, h('i', { class: `cell ${name}`, 'aria-hidden': 'true' }), label, h('span', { class: 'note' }, ` ${about}`)))),
    earlier, months,
  ]
}

// [[month, [[date, letter], …]], …]
function byMonth(runs) {
  const months = new Map()
  for (const { letter, sessions } of runs) {
    for (const date of sessions) {
      const month = date.slice(0, 7)
      if (!months.has(month)) months.set(month, new Map())
      months.get(month).set(date, letter)
    }
  }
  return [...months]
}

const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri']

function monthTable([month, letters]) {
  const [year, number] = month.split('-').map(Number)
  const days = new Date(Date.UTC(year, number, 0)).getUTCDate()
  const weeks = [[]]
  for (let day = 1; day <= days; day++) {
    const weekday = (new Date(Date.UTC(year, number - 1, day)).getUTCDay() + 6) % 7
    if (weekday > 4) continue
    if (weekday === 0 && weeks.at(-1).length) weeks.push([])
    const week = weeks.at(-1)
    while (week.length < weekday) week.push(h('td', {}))
    week.push(dayCell(`${month}-${String(day).padStart(2, '0')}`, day, letters))
  }
  const shown = weeks.filter((week) => week.some((cell) => cell.firstElementChild))
  return h('table', { class: 'month' }, h('caption', {}, format.month(month)),
    h('thead', {}, h('tr', {}, WEEKDAYS.map((name) => h('th', { scope: 'col' }, h('span', { 'aria-hidden': 'true' }, name[0]), h('span', { class: 'sr' }, name))))),
    h('tbody', {}, shown.map((week) => h('tr', {}, week))))
}

function dayCell(date, day, letters) {
  const letter = letters.get(date)
  const { first, last } = siteIndex()
  if (!letter) return h('td', { class: 'closed' }, date > first && date < last ? String(day) : '')
  const [name, label] = stateOf(letter)
  return h('td', { title: `${date}: ${label}` }, h('span', { class: `cell ${name}` }, String(day), h('span', { class: 'sr' }, ` ${label}`)))
}

function bySymbol([state, calendar]) {
  const rows = state.symbols ?? []
  if (rows.length) {
    return [h('h2', {}, 'By symbol'), table('The data by symbol', [
      { label: 'Symbol', cell: (row) => h('a', { class: 'ticker', href: symbolAddress(row.symbol) }, row.symbol) },
      { label: 'Rows', number: true, cell: (row) => format.count(row.rows) },
      { label: 'First', cell: (row) => row.first ?? format.UNKNOWN },
      { label: 'Last', cell: (row) => row.last ?? format.UNKNOWN },
      { label: 'Missing', number: true, cell: (row) => format.count(row.missing) },
      { label: 'Read again', number: true, cell: (row) => format.count(row.read_again) },
      { label: 'Sessions', cell: (row) => strip(calendar, row.symbol) },
    ], rows)]
  }
  const whole = JSON.stringify(calendar.overall)
  const different = Object.entries(calendar.symbols ?? {}).filter(([, runs]) => JSON.stringify(runs) !== whole).map(([symbol]) => symbol).sort()
  if (!different.length) return [h('h2', {}, 'By symbol'), h('p', { class: 'note' }, 'Every symbol is as the whole.')]
  const grid = virtualTable('Symbols whose state differs from the whole')
  grid.update({ count: different.length, columns: [
    { key: 'symbol', label: 'Symbol', width: 130, cell: (row) => h('a', { class: 'ticker', href: symbolAddress(different[row]) }, different[row]) },
    { key: 'strip', label: 'Sessions', width: 520, cell: (row) => strip(calendar, different[row]) },
  ] })
  return [h('h2', {}, 'By symbol'), h('p', { class: 'note' }, `${format.count(different.length)} symbols differ from the whole.`), grid.root]
}

// All sessions of a symbol in a row; its runs are the text of it.
function strip(calendar, symbol) {
  const runs = statesOf(calendar, symbol)
  const label = runs.map(({ letter, sessions }) => `${sessions[0]}${sessions.length > 1 ? ` to ${sessions.at(-1)}` : ''} ${stateOf(letter)[1].toLowerCase()}`).join('; ')
  const total = runs.reduce((sum, { sessions }) => sum + sessions.length, 0)
  let at = 0
  return h('a', { class: 'strip', href: address('data', '', { symbol }), 'aria-label': `${symbol}: ${label.length > 400 ? `${label.slice(0, 400)}…` : label}`, title: label.slice(0, 400) },
    svg('svg', { viewBox: `0 0 ${total} 10`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, runs.map(({ letter, sessions }) => {
      const rect = svg('rect', { class: stateOf(letter)[0], x: at, y: letter === 's' ? 3 : letter === 'o' || letter === 'n' ? 4.5 : 0, width: sessions.length, height: letter === 's' ? 4 : letter === 'o' || letter === 'n' ? 1 : 10 })
      at += sessions.length
      return rect
    })))
}

const ticker = (row) => h('a', { class: 'ticker', href: symbolAddress(row.symbol) }, row.symbol)

function corrections({ corrections: rows = [] }) {
  return [h('h2', {}, 'Corrections'), rows.length ? table('The last corrections', [
    { label: 'Symbol', cell: ticker },
    { label: 'Session', cell: (row) => row.date },
    { label: 'Noticed', cell: (row) => format.moment(row.at) },
    { label: 'What changed', cell: correctionText },
  ], rows, { className: 'wrapped' }) : h('p', { class: 'note' }, 'The provider has changed nothing that was stored.')]
}

function rejected({ rejected: rows = [] }) {
  return [h('h2', {}, 'Rejected bars'), rows.length ? table('The last rejected bars', [
    { label: 'Symbol', cell: ticker },
    { label: 'Session', cell: (row) => row.date ?? format.UNKNOWN },
    { label: 'Reason', cell: (row) => row.reason },
    { label: 'Bar', cell: (row) => h('code', {}, row.bar) },
  ], rows, { className: 'wrapped' }) : h('p', { class: 'note' }, 'Every bar that came could be stored.')]
}

function runs({ runs: rows = [] }) {
  return [h('h2', {}, 'Last runs'), rows.length ? table('The last runs', [
    { label: 'Started', cell: (row) => format.moment(row.started_at) },
    { label: 'Job', cell: (row) => row.job_type },
    { label: 'As of', cell: (row) => row.as_of ?? format.UNKNOWN },
    { label: 'Status', cell: (row) => h('span', { class: `status ${/^(ok|sent|nothing_to_do|already_sent)$/.test(row.status) ? 'good' : 'bad'}` }, (row.status ?? 'unknown').replaceAll('_', ' ')) },
    { label: 'Calls', number: true, cell: (row) => format.count(row.calls) },
    { label: 'Rows', number: true, cell: (row) => format.count(row.rows) },
    { label: 'Error', cell: (row) => row.error ?? '' },
  ], rows, { className: 'wrapped' }) : h('p', { class: 'note' }, 'No runs are recorded.')]
}
