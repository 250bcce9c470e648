// What is known of each session: the run-length strings of the calendar as dates.
import { siteIndex } from './data.js'

export const STATES = {
  s: ['settled', 'Settled', 'read when enough later sessions were published'],
  p: ['provisional', 'Provisional', 'stored, and read again by the next update'],
  c: ['corrected', 'Corrected', 'the provider changed it later'],
  n: ['no-bar', 'No bar', 'read; the provider has none'],
  r: ['rejected', 'Rejected', 'the bar cannot be right'],
  m: ['missing', 'Missing', 'not read yet'],
  o: ['outside', 'Not tracked', 'out of reach, or before the first reading'],
}

export const stateOf = (letter) => STATES[letter] ?? ['outside', `Unknown state “${letter}”`, '']

// Whether a symbol has states of its own, else those of the whole.
export const runsOf = (calendar, symbol) => (symbol ? calendar.symbols?.[symbol] : null) ?? calendar.overall ?? []

// [{ letter, sessions: […] }] in the order of time.
export function statesOf(calendar, symbol) {
  const { sessions } = siteIndex()
  let at = 0
  return runsOf(calendar, symbol).map(([letter, count]) => {
    const run = { letter, sessions: sessions.slice(at, at + count) }
    at += count
    return run
  }).filter((run) => run.sessions.length)
}
