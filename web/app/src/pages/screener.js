// Filter, sort and export every figure of every symbol; the address holds the whole state.
import { download, h } from '../dom.js'
import { siteIndex } from '../data.js'
import { count as countText, csv } from '../format.js'
import { FIGURES, figure, isExact, isNumber, shown, text, width } from '../figures.js'
import { overviewColumns } from '../parquet.js'
import { panel } from '../panel.js'
import { address, replace } from '../router.js'
import { fromQuery, parseNumber, screen, toQuery } from '../screen.js'
import { columnWidth, virtualTable } from '../table.js'

const PRESETS = [
  ['Rising', { change_1m: '10..', sort: '-change_1m' }],
  ['Falling', { change_1m: '..-10', sort: 'change_1m' }],
  ['Unusual volume', { volume_ratio: '2..', sort: '-volume_ratio' }],
  ['Near the high', { place_52w: '0.95..', sort: '-place_52w' }],
  ['Oversold', { rsi_14: '..30', sort: 'rsi_14' }],
  ['Overbought', { rsi_14: '70..', sort: '-rsi_14' }],
  ['Golden cross', { cross: 'golden', sort: '-cross_date', columns: 'close,change_1d,sma_50,sma_200,cross,cross_date' }],
]

export function screenerPage({ query }) {
  const content = panel(overviewColumns, (columns) => draw(columns, query), { className: 'bare screener' })
  return { title: 'Screener', content: [h('h1', {}, 'Screener'), content] }
}

function draw(columns, query) {
  const known = FIGURES.map(({ key }) => key).filter((key) => columns[key]).concat(Object.keys(columns).filter((key) => !FIGURES.some((each) => each.key === key)))
  const state = fromQuery(query, known)
  const grid = virtualTable('Symbols', { onsort: sort })
  let rows = []
  const widths = {}

  const total = h('output', { class: 'total', 'aria-live': 'polite' })
  const search = h('input', { type: 'search', id: 'filter-symbol', 'aria-label': 'Symbol holds', placeholder: 'Symbol holds…', value: state.q, spellcheck: 'false', oninput: () => { state.q = search.value; apply() } })
  const filters = h('div', { class: 'filters' })
  const add = h('select', { 'aria-label': 'Add a filter', onchange: () => { if (add.value) addFilter(add.value); add.value = '' } },
    h('option', { value: '' }, '+ Filter'), grouped(known.filter((key) => key !== 'symbol')))
  const chooser = h('details', { class: 'chooser' }, h('summary', {}, 'Columns'), h('div', { class: 'choices' },
    known.filter((key) => key !== 'symbol').map((key) => h('label', { title: figure(key).about },
      h('input', { type: 'checkbox', checked: state.columns.includes(key), onchange: (event) => choose(key, event.target.checked) }), figure(key).label))))
  const none = h('p', { class: 'empty', hidden: true }, 'No symbol passes all filters.')
  const presets = PRESETS.filter(([, wanted]) => Object.keys(wanted).every((key) => ['sort', 'columns'].includes(key) || known.includes(key)))

  function apply(top = true) {
    rows = screen(columns, state)
    grid.update({ count: rows.length, top })
    total.textContent = `${countText(rows.length)} of ${countText(columns.symbol.length)} symbols`
    none.hidden = rows.length > 0
    grid.root.hidden = !rows.length
    replace(address('screener', '', toQuery(state)))
  }

  function sort(key) {
    const same = state.sort.key === key
    state.sort = { key, down: same ? !state.sort.down : isNumber(key) }
    grid.update({ sort: state.sort })
    apply()
    grid.root.querySelector('th[aria-sort] button')?.focus({ preventScroll: true })
  }

  function choose(key, wanted) {
    const order = known.indexOf.bind(known)
    const chosen = state.columns.filter((each) => each !== key)
    if (wanted) {
      const at = chosen.findIndex((each) => each !== 'symbol' && order(each) > order(key))
      chosen.splice(at < 0 ? chosen.length : at, 0, key)
    }
    state.columns = chosen
    showColumns()
    apply(false)
  }

  function showColumns() {
    grid.update({ sort: state.sort, columns: state.columns.map((key) => ({
      key, label: figure(key).label, about: figure(key).about, number: isNumber(key), width: (widths[key] ??= columnWidth(columns[key], (value) => text(key, value), width(key), { exact: isExact(key) })),
      cell: (row) => shown(key, columns[key][rows[row]]),
    })) })
  }

  function addFilter(key) {
    let filter = state.filters.find((each) => each.key === key)
    if (!filter) {
      filter = ['symbol', 'word'].includes(figure(key).kind) ? { key, is: '' } : { key, low: null, high: null }
      state.filters.push(filter)
      showFilters()
    }
    filters.querySelector(`[data-key="${CSS.escape(key)}"] :is(input, select)`)?.focus()
  }

  function showFilters() {
    filters.replaceChildren(...state.filters.map((filter) => h('fieldset', { class: 'filter', 'data-key': filter.key },
      h('legend', { title: figure(filter.key).about }, figure(filter.key).label),
      'is' in filter ? wordField(filter) : [rangeField(filter, 'low', 'from'), h('span', { 'aria-hidden': 'true' }, '–'), rangeField(filter, 'high', 'to')],
      h('button', { type: 'button', class: 'remove', 'aria-label': `Remove the filter of ${figure(filter.key).label}`, onclick: () => {
        state.filters = state.filters.filter((each) => each !== filter)
        showFilters()
        apply()
        add.focus()
      } }, '×'))))
  }

  function wordField(filter) {
    const words = [...new Set(columns[filter.key])].filter((value) => value !== null).sort()
    const field = h('select', { 'aria-label': figure(filter.key).label, onchange: () => { filter.is = field.value; apply() } },
      h('option', { value: '' }, 'any'), words.map((each) => h('option', { value: each, selected: each === filter.is }, each)))
    return field
  }

  function rangeField(filter, end, placeholder) {
    const dated = figure(filter.key).kind === 'date'
    const field = h('input', { type: dated ? 'date' : 'text', inputmode: dated ? null : 'decimal', placeholder, 'aria-label': `${figure(filter.key).label} ${placeholder}`, value: filter[end] ?? '', oninput: () => {
      const text = field.value.trim()
      const value = text === '' ? null : dated ? text : parseNumber(text)
      const wrong = text !== '' && value === null
      field.setAttribute('aria-invalid', String(wrong))
      field.title = wrong ? `“${text}” is not a number; valid is 12.5 or 3M` : ''
      if (wrong) return
      filter[end] = value
      apply()
    } })
    return field
  }

  function save() {
    const keys = state.columns
    download(`screener-${siteIndex().last ?? 'all'}.csv`, csv(keys, Array.from(rows, (row) => keys.map((key) => columns[key][row]))))
  }

  showFilters()
  showColumns()
  apply()
  return [
    state.wrong.length > 0 && h('div', { class: 'problem', role: 'alert' }, h('span', {}, state.wrong.join(' '))),
    h('div', { class: 'presets', role: 'group', 'aria-label': 'Ready-made screens' }, presets.map(([label, wanted]) => h('a', { class: 'chip', href: address('screener', '', wanted) }, label)),
      h('a', { class: 'chip', href: address('screener') }, 'All')),
    h('div', { class: 'toolbar' }, search, add, chooser, h('span', { class: 'push' }, total), h('button', { type: 'button', onclick: save }, 'CSV')),
    filters, grid.root, none,
  ]
}

function grouped(keys) {
  const groups = Map.groupBy ? Map.groupBy(keys, (key) => figure(key).group ?? 'Other') : new Map([['Figures', keys]])
  return [...groups].map(([label, members]) => h('optgroup', { label }, members.map((key) => h('option', { value: key }, `${figure(key).label}: ${figure(key).about}`))))
}
