// Breadth over time: how many symbols rose and fell, and the share above their averages.
import { BaselineSeries, HistogramSeries, LineSeries, LineType } from 'lightweight-charts'
import { h } from './dom.js'
import { sessionChart } from './chart.js'
import * as format from './format.js'
import { table } from './table.js'
import { color } from './theme.js'

const COLUMNS = [
  ['advancers', 'Rose', format.count, 'rise'], ['decliners', 'Fell', format.count, 'fall'], ['unchanged', 'Unchanged', format.count],
  ['above_50', 'Above avg. 50', format.share, 'line-1'], ['above_200', 'Above avg. 200', format.share, 'line-2'],
  ['new_highs', 'New highs', format.count], ['new_lows', 'New lows', format.count],
]

const MANY = 200 // sessions

export function breadthChart(data) {
  const dates = data.date ?? []
  const columns = COLUMNS.filter(([key]) => data[key]?.some((value) => value !== null))
  const drawn = sessionChart({
    label: `Breadth of ${dates.length} sessions: symbols that rose and fell, and the share above their averages`,
    className: 'breadth',
    dates,
    read: (row) => columns.map(([key, name, show, way]) => [name, show(data[key]?.[row]), way]),
  })
  const { chart } = drawn
  const whole = { type: 'custom', minMove: 1, formatter: (value) => (Number.isInteger(value) ? format.short(Math.abs(value)) : '') }
  // Many bars side by side would flicker; they become an area.
  const many = dates.length > MANY
  const bars = { priceFormat: whole, priceLineVisible: false, lastValueVisible: false, crosshairMarkerVisible: false }
  const rose = chart.addSeries(many ? BaselineSeries : HistogramSeries, bars)
  const fell = chart.addSeries(many ? BaselineSeries : HistogramSeries, bars)
  rose.setData(points(dates, data.advancers))
  fell.setData(points(dates, data.decliners, (value) => -value))
  drawn.painted(() => [[rose, 'rise-fill'], [fell, 'fall-fill']].forEach(([series, name]) => series.applyOptions(many ? area(color(name)) : { color: color(name) })))
  const lines = [['above_50', 'line-1'], ['above_200', 'line-2']].filter(([key]) => data[key]?.some((value) => value !== null))
  for (const [key, paint] of lines) {
    const line = chart.addSeries(LineSeries, { priceFormat: { type: 'custom', minMove: 0.01, formatter: (value) => format.share(value).replace('.0%', '%') }, lineWidth: 2, priceLineVisible: false, lastValueVisible: false, crosshairMarkerRadius: 3,
      autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 1 } }) }, 1)
    line.setData(points(dates, data[key]))
    drawn.painted(() => line.applyOptions({ color: color(paint) }))
  }
  if (lines.length) chart.panes().forEach((pane, at) => pane.setStretchFactor([3, 2][at]))
  drawn.follow(rose, data.advancers ?? [])
  drawn.start(() => drawn.scale.fitContent())

  const rows = dates.map((date, row) => row).reverse()
  const shown = h('details', { class: 'as-table' }, h('summary', {}, 'As a table'))
  // Built when it is opened: most readers look at the chart.
  shown.addEventListener('toggle', () => {
    if (!shown.open || shown.children.length > 1) return
    shown.append(table('Breadth by session, the latest first', [{ label: 'Session', cell: (row) => dates[row] },
      ...columns.map(([key, label, show]) => ({ label, number: true, cell: (row) => show(data[key]?.[row]) }))], rows))
  })
  return { root: Object.assign(h('div', {}, drawn.root, shown), { attached: drawn.attached }), remove: drawn.remove }
}

const area = (paint) => ({ baseValue: { type: 'price', price: 0 }, lineType: LineType.WithSteps, lineWidth: 1, topLineColor: paint, topFillColor1: paint, topFillColor2: paint, bottomLineColor: paint, bottomFillColor1: paint, bottomFillColor2: paint })

const points = (dates, values = [], map = (value) => value) => dates.map((time, row) =>
  (values[row] === null || values[row] === undefined ? { time } : { time, value: map(values[row]) }))
