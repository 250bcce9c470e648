// Tables: a plain one, and one that draws only the rows in view.
import { h } from './dom.js'

// A plain table. columns: [{ label, number, cell(row) }]
export function table(caption, columns, rows, { className = '' } = {}) {
  return h('div', { class: `scroller ${className}`, role: 'region', tabindex: '0', 'aria-label': caption },
    h('table', {},
      h('caption', { class: 'sr' }, caption),
      h('thead', {}, h('tr', {}, columns.map((column) => h('th', { scope: 'col', class: column.number && 'number' }, column.label)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, columns.map((column, at) =>
        h(at ? 'td' : 'th', { scope: at ? null : 'row', class: column.number && 'number' }, column.cell(row))))))))
}

const ROW = 36 // pixels; style.css has the same
const DIGIT = 8.6 // pixels of a wide character
const PADDING = 40 // pixels, with the arrow of a change

// The width of a column that cuts no number off: that of its lowest, its highest and its longest value.
export function columnWidth(values, show, least, { exact = false } = {}) {
  let low = null
  let high = null
  let long = ''
  for (const value of values) {
    if (typeof value !== 'number') continue
    if (low === null || value < low) low = value
    if (high === null || value > high) high = value
    if (exact && String(value).length > String(long).length) long = value
  }
  const texts = [low, high, long].filter((value) => typeof value === 'number').map((value) => show(value).length)
  return Math.max(least, Math.ceil(Math.max(0, ...texts) * DIGIT + PADDING))
}

const MARGIN = 6 // rows above and below the view

// A table of any length. columns: [{ key, label, about, number, width, cell(row) }]; the first column stays in view.
export function virtualTable(caption, { onsort = null } = {}) {
  let columns = []
  let count = 0
  let sorted = null
  let drawn = [-1, -1]
  const group = h('colgroup')
  const head = h('tr', { 'aria-rowindex': '1' })
  const body = h('tbody')
  const grid = h('table', { class: 'virtual' }, h('caption', { class: 'sr' }, caption), group, h('thead', {}, head), body)
  const root = h('div', { class: 'scroller tall', role: 'region', tabindex: '0', 'aria-label': caption, onscroll: draw, onkeydown: step }, grid)
  new ResizeObserver(draw).observe(root)

  function update(next) {
    if (next.columns) {
      columns = next.columns
      group.replaceChildren(...columns.map((column) => h('col', { style: { width: `${column.width}px` } })))
      grid.style.setProperty('width', `${columns.reduce((sum, column) => sum + column.width, 0)}px`)
    }
    if (next.columns || next.sort !== undefined) {
      sorted = next.sort ?? sorted
      head.replaceChildren(...columns.map(heading))
    }
    if (next.count !== undefined) {
      count = next.count
      grid.setAttribute('aria-rowcount', String(count + 1))
    }
    drawn = [-1, -1]
    if (next.top) root.scrollTop = 0
    draw()
  }

  function heading(column) {
    const way = sorted?.key === column.key ? (sorted.down ? 'descending' : 'ascending') : null
    const sign = { ascending: ' ▴', descending: ' ▾' }[way] ?? ''
    const label = [column.label, h('span', { 'aria-hidden': 'true' }, sign)]
    return h('th', { scope: 'col', class: column.number && 'number', 'aria-sort': way, title: column.about },
      onsort ? h('button', { type: 'button', onclick: () => onsort(column.key) }, label) : column.label)
  }

  function draw() {
    const visible = Math.ceil((root.clientHeight || 600) / ROW)
    const top = Math.floor(root.scrollTop / ROW)
    const start = Math.max(0, Math.min(top - MARGIN, count - visible - MARGIN))
    const end = Math.min(count, top + visible + MARGIN)
    if (start === drawn[0] && end === drawn[1]) return
    // Within the margin nothing has to be drawn yet.
    if (drawn[0] >= 0 && top >= drawn[0] && Math.min(count, top + visible) <= drawn[1]) return
    drawn = [start, end]
    const rows = []
    for (let row = start; row < end; row++) {
      rows.push(h('tr', { 'aria-rowindex': String(row + 2) }, columns.map((column, at) =>
        h(at ? 'td' : 'th', { scope: at ? null : 'row', class: column.number && 'number' }, column.cell(row)))))
    }
    const focused = body.contains(document.activeElement) ? rowOf(document.activeElement) : null
    body.replaceChildren(spacer(start), ...rows, spacer(count - end))
    // A row that scrolled away hands the focus to the table, so that the keys still scroll it.
    if (focused !== null) (body.querySelector(`tr[aria-rowindex="${focused}"] a`) ?? root).focus({ preventScroll: true })
  }

  const spacer = (rows) => (rows > 0 ? h('tr', { class: 'spacer', 'aria-hidden': 'true' }, h('td', { colspan: String(columns.length), style: { height: `${rows * ROW}px` } })) : '')
  const rowOf = (element) => Number(element.closest('tr')?.getAttribute('aria-rowindex'))

  // Arrows move from row to row once a row has the focus.
  function step(event) {
    if (!body.contains(event.target)) return
    const page = Math.max(1, Math.floor(root.clientHeight / ROW) - 2)
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -count, End: count }[event.key]
    if (!by) return
    event.preventDefault()
    const row = Math.max(0, Math.min(count - 1, rowOf(event.target) - 2 + by))
    const head = root.querySelector('thead').offsetHeight
    const place = row * ROW
    if (place < root.scrollTop) root.scrollTop = place
    else if (place + ROW + head > root.scrollTop + root.clientHeight) root.scrollTop = place + ROW + head - root.clientHeight
    draw()
    body.querySelector(`tr[aria-rowindex="${row + 2}"] a`)?.focus({ preventScroll: true })
  }

  return { root, update }
}
