// A chart over sessions: the library, the colors of the page, keys, and its values as text.
import { createChart, CrosshairMode, PriceScaleMode } from 'lightweight-charts'
import { h } from './dom.js'
import { day } from './format.js'
import { color, onTheme } from './theme.js'

export { PriceScaleMode }

const KEYS = 'Arrow keys read one session after the other, Shift and arrows move, plus and minus zoom, 0 shows everything.'

// dates: ISO, ascending. read(row) → [[name, text, class?], …] for the line above the chart and for screen readers.
export function sessionChart({ label, dates, read, className = '', onmove = () => {} }) {
  const legend = h('div', { class: 'legend', 'aria-hidden': 'true' })
  const live = h('div', { class: 'sr', 'aria-live': 'polite' })
  const box = h('div', { class: 'canvas', 'aria-hidden': 'true' })
  const stage = h('div', { class: 'stage', tabindex: '0', role: 'application', 'aria-roledescription': 'chart', 'aria-label': `${label}. ${KEYS}` }, box)
  const root = h('div', { class: `chart ${className}` }, legend, stage, live)
  const rows = new Map(dates.map((date, row) => [date, row]))
  let at = null // the row that the keys have reached
  let anchor = null // the series and its values that the cross hair follows

  const chart = createChart(box, {
    layout: { attributionLogo: false, fontFamily: getComputedStyle(document.body).fontFamily, fontSize: 12, panes: { enableResize: false } },
    crosshair: { mode: CrosshairMode.Magnet },
    rightPriceScale: { borderVisible: false, minimumWidth: 64 },
    timeScale: { borderVisible: false, rightOffset: 2, minBarSpacing: 0.5, fixLeftEdge: true },
    localization: { locale: 'en-US', timeFormatter: day },
    handleScroll: { vertTouchDrag: false }, // a finger that moves up or down scrolls the page
  })
  const painters = []
  // The chart takes the size of its box; what depends on the width waits for the first one.
  let begin = null
  function size() {
    if (!box.clientWidth) return
    chart.resize(box.clientWidth, box.clientHeight)
    begin?.()
    begin = null
  }
  const sizes = new ResizeObserver(size)
  function paint() {
    chart.applyOptions({
      layout: { background: { color: color('paper') }, textColor: color('pale'), panes: { separatorColor: color('line'), separatorHoverColor: color('line') } },
      grid: { vertLines: { color: color('grid') }, horzLines: { color: color('grid') } },
      crosshair: { vertLine: { color: color('pale'), labelBackgroundColor: color('label') }, horzLine: { color: color('pale'), labelBackgroundColor: color('label') } },
    })
    painters.forEach((painter) => painter())
  }
  const stopTheme = onTheme(paint)

  function show(row) {
    const items = dates.length ? read(row ?? dates.length - 1) : []
    legend.replaceChildren(h('b', {}, day(dates[row ?? dates.length - 1])), ...items.map(([name, text, way]) =>
      h('span', { class: way }, h('span', { class: 'name' }, `${name} `), text)))
    return items
  }
  chart.subscribeCrosshairMove(({ time }) => show(rows.get(time) ?? null))

  function speak() {
    const items = show(at)
    live.textContent = `${day(dates[at])}: ${items.map(([name, text]) => `${name} ${text}`).join(', ')}`
  }

  const scale = chart.timeScale()
  // The rows in view, for whoever looks at the page from outside.
  scale.subscribeVisibleLogicalRangeChange((range) => { if (range) stage.dataset.view = `${range.from.toFixed(1)} ${range.to.toFixed(1)}` })
  function zoom(factor) {
    const range = scale.getVisibleLogicalRange()
    if (!range) return
    const center = at !== null && at > range.from && at < range.to ? at : range.to
    scale.setVisibleLogicalRange({ from: center - (center - range.from) * factor, to: center + (range.to - center) * factor })
  }
  function pan(share) {
    const range = scale.getVisibleLogicalRange()
    if (!range) return
    const by = (range.to - range.from) * share
    if ((by < 0 && range.from <= 0) || (by > 0 && range.to >= dates.length + 2)) return
    scale.setVisibleLogicalRange({ from: range.from + by, to: range.to + by })
  }
  function reach(row) {
    at = Math.max(0, Math.min(dates.length - 1, row))
    const range = scale.getVisibleLogicalRange()
    if (range && (at < range.from || at > range.to)) {
      const width = range.to - range.from
      const from = at < range.from ? at - 1 : at - width + 1
      scale.setVisibleLogicalRange({ from, to: from + width })
    }
    if (anchor) chart.setCrosshairPosition(anchor.values[at], dates[at], anchor.series)
    speak()
  }
  stage.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !dates.length) return
    const from = at ?? dates.length - 1
    const act = {
      ArrowLeft: () => (event.shiftKey ? pan(-0.2) : reach(at === null ? from : from - 1)),
      ArrowRight: () => (event.shiftKey ? pan(0.2) : reach(from + 1)),
      Home: () => reach(0),
      End: () => reach(dates.length - 1),
      '+': () => zoom(0.7), '=': () => zoom(0.7), '-': () => zoom(1 / 0.7),
      0: () => scale.fitContent(),
      Escape: () => { at = null; chart.clearCrosshairPosition(); show(null) },
    }[event.key]
    if (!act) return
    event.preventDefault()
    act()
    if (['+', '=', '-', '0'].includes(event.key) || event.shiftKey) onmove()
  })
  stage.addEventListener('wheel', onmove, { passive: true })
  stage.addEventListener('pointerdown', onmove)
  stage.addEventListener('blur', () => { at = null; chart.clearCrosshairPosition(); show(null) })

  show(null)
  return {
    root,
    chart,
    scale,
    // Apply colors now, and again after each change of the theme.
    painted(painter) { painters.push(painter); painter() },
    follow(series, values) { anchor = { series, values } },
    // Paint, and once the chart has a size call back, to choose what is in view.
    start(sized) { paint(); begin = sized; sizes.observe(box) },
    // The chart stands in the page now: draw it in the next frame, not in the one after.
    attached: size,
    refresh: () => show(at),
    remove() { stopTheme(); sizes.disconnect(); chart.remove() },
  }
}
