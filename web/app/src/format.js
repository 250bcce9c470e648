// Format numbers from their decimal digits, never by binary arithmetic: what the table holds is what is shown.
// Roundings are half to even, as in the report.

export const UNKNOWN = '–'
const MINUS = '−'

const known = (value) => value !== null && value !== undefined && (typeof value === 'bigint' || Number.isFinite(value))

// The shortest decimal that stands for a number, without an exponent: 0.00000012, not 1.2e-7.
export function decimal(value) {
  if (!known(value)) return ''
  const text = String(value)
  const match = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(text)
  if (!match) return text === '-0' ? '0' : text
  const [, sign, first, rest = '', power] = match
  const digits = first + rest
  const point = 1 + Number(power)
  if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`
  if (point >= digits.length) return sign + digits.padEnd(point, '0')
  return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`
}

// Round half to even at a number of decimals. Twelve significant digits drop the noise of binary division.
export function rounded(value, places) {
  if (!known(value)) return ''
  const text = decimal(typeof value === 'bigint' ? value : Number(value.toPrecision(12)))
  const sign = text.startsWith('-') ? '-' : ''
  const [whole, part = ''] = text.replace('-', '').split('.')
  if (part.length <= places) return places ? `${sign}${whole}.${part.padEnd(places, '0')}`.replace(/^-(0\.0*)$/, '$1') : sign + whole
  const kept = whole + part.slice(0, places)
  const rest = part.slice(places)
  const tie = /^50*$/.test(rest)
  const up = tie ? Number(kept.at(-1)) % 2 === 1 : rest[0] >= '5'
  const digits = String(BigInt(kept) + (up ? 1n : 0n)).padStart(places + 1, '0')
  const result = places ? `${digits.slice(0, -places)}.${digits.slice(-places)}` : digits
  return /[1-9]/.test(result) ? sign + result : result
}

const grouped = (text) => text.replace(/^-?\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ','))
const signless = (text) => text.replace(/^-/, MINUS)

// A price with every digit that the table has, and at least two decimals.
export function price(value) {
  if (!known(value)) return UNKNOWN
  const [whole, part = ''] = decimal(value).split('.')
  return signless(grouped(`${whole}.${part.padEnd(2, '0')}`))
}

// A price that is a mean of prices: in cents, below a dollar with six decimals without trailing zeros.
export function average(value) {
  if (!known(value)) return UNKNOWN
  if (Math.abs(value) >= 1 || value === 0) return signless(grouped(rounded(value, 2)))
  const [whole, part] = rounded(value, 6).split('.')
  return signless(`${whole}.${part.replace(/0+$/, '').padEnd(2, '0')}`)
}

export const number = (value, places = 2) => (known(value) ? signless(grouped(rounded(value, places))) : UNKNOWN)
export const count = (value) => number(value, 0)
export const percent = (value) => (known(value) ? `${number(value)}%` : UNKNOWN)
export const ratio = (value) => (known(value) ? `${number(value)}×` : UNKNOWN)
// A share from 0 to 1 as a percentage; the point moves two places, and no digit changes.
export const share = (value) => (known(value) ? `${number(shifted(value, 2), 1)}%` : UNKNOWN)

function shifted(value, places) {
  return Number(`${rounded(value, 8)}e${places}`)
}

export function direction(value) {
  const text = known(value) ? rounded(value, 2) : '0'
  return !/[1-9]/.test(text) ? 'flat' : text.startsWith('-') ? 'fall' : 'rise'
}

// A change with its sign: +8.53%, −3.20%, 0.00%.
export function change(value) {
  if (!known(value)) return UNKNOWN
  return `${direction(value) === 'rise' ? '+' : ''}${percent(value)}`
}

// A large number in few characters, for axes and tiles: 1.5M.
export function short(value) {
  if (!known(value)) return UNKNOWN
  const size = Math.abs(Number(value))
  const power = [1e12, 1e9, 1e6, 1e3].find((each) => size >= each)
  if (!power) return number(value, size % 1 ? 1 : 0)
  const text = rounded(Number(value) / power, 1).replace(/\.0$/, '')
  return signless(text) + { 1e12: 'T', 1e9: 'B', 1e6: 'M', 1e3: 'K' }[power]
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

// An ISO date in words: Mar 1, 2013.
export function day(iso) {
  const match = /^(\d{4})-(\d\d)-(\d\d)/.exec(iso ?? '')
  return match ? `${MONTHS[match[2] - 1]} ${Number(match[3])}, ${match[1]}` : UNKNOWN
}

// The time that figures of 52 weeks really span: less while the stored history is shorter.
export function yearSpan({ first, last }) {
  if (!first || !last) return '52 weeks'
  return first > `${last.slice(0, 4) - 1}${last.slice(4)}` ? `since ${day(first)}` : '52 weeks'
}

export function month(iso) {
  return `${['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November',
    'December'][iso.slice(5, 7) - 1]} ${iso.slice(0, 4)}`
}

export function moment(iso) {
  const match = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)/.exec(iso ?? '')
  return match ? `${match[1]} ${match[2]} UTC` : iso || UNKNOWN
}

// Comma-separated values. A spreadsheet would run a cell that begins like a formula; a leading quote makes it text.
export function csv(heading, rows) {
  const cell = (value) => {
    if (typeof value === 'number' || typeof value === 'bigint') return decimal(value)
    const text = value === null || value === undefined ? '' : /^[=+\-@]/.test(value) ? `'${value}` : String(value)
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  }
  return [heading, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('')
}
