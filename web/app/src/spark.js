// A small line of closes, without axes.
import { svg } from './dom.js'
import { price } from './format.js'

const WIDTH = 200
const HEIGHT = 48

// The color tells whether the line ends above or below its beginning.
export function sparkline(closes) {
  const known = (closes ?? []).filter(Number.isFinite)
  if (known.length < 2) return svg('svg', { class: 'spark', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, 'aria-hidden': 'true' })
  const way = known.at(-1) > known[0] ? 'rise' : known.at(-1) < known[0] ? 'fall' : 'flat'
  const low = Math.min(...known)
  const span = Math.max(...known) - low || 1
  const points = known.map((close, at) => {
    const x = (at / (known.length - 1)) * WIDTH
    const y = HEIGHT - 3 - ((close - low) / span) * (HEIGHT - 6)
    return `${x.toFixed(1)},${y.toFixed(1)}`
  })
  const label = `${known.length} closes, from ${price(known[0])} to ${price(known.at(-1))}`
  return svg('svg', { class: `spark ${way}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    svg('polygon', { points: `0,${HEIGHT} ${points.join(' ')} ${WIDTH},${HEIGHT}` }),
    svg('polyline', { points: points.join(' ') }))
}
