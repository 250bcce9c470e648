// Read Parquet columns by range requests: one for the footer, one for the row groups that hold what is wanted.
import { parquetMetadata, parquetRead } from 'hyparquet'
import { DataError, loadBytes, once, pieces } from './data.js'

const SMALL = 65_536 // a file up to this size is read whole, by one request
const TAIL = 8 // the length of the footer and the magic word
const MILLIONTHS = 1e6
// Whole numbers; all other 64-bit integers are decimals in millionths.
const WHOLE = new Set(['volume', 'sessions', 'streak'])

// The rows of a symbol in all pieces of the prices, by date, as columns; `problems` holds the errors of pieces that
// could not be read. If none could, the first error is thrown.
export async function symbolPrices(symbol) {
  const parts = [...pieces('history'), ...pieces('recent')].filter((piece) => mayHold(piece.first_symbol, piece.last_symbol, symbol))
  const settled = await Promise.allSettled(parts.map((piece) => symbolRows(piece, symbol)))
  const problems = settled.filter(({ status }) => status === 'rejected').map(({ reason }) => reason)
  const found = settled.filter(({ status }) => status === 'fulfilled').map(({ value }) => value)
  if (problems.length && !found.some((columns) => columns.date?.length)) throw problems[0]
  return { ...joined(found), problems }
}

// The figures of one symbol, or null; of the file that is loaded already, else of one of its row groups.
export async function symbolFigures(symbol) {
  const [file] = pieces('overview')
  if (!file) throw new DataError('index.json lists no file "overview"')
  const columns = await symbolRows(file, symbol)
  if (!columns.symbol?.length) return null
  return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[0]]))
}

// Every column of the overview: { symbol: […], close: […], … }.
export function overviewColumns() {
  const [file] = pieces('overview')
  if (!file) return Promise.reject(new DataError('index.json lists no file "overview"'))
  return once(`${file.path} columns`, async () => {
    const bytes = await loadBytes(file)
    return decoded(file, metadataOf(file, bytes), whole(file, bytes))
  })
}

const mayHold = (first, last, symbol) => (first === undefined || first <= symbol) && (last === undefined || symbol <= last)

async function symbolRows(file, symbol) {
  return once(`${file.path} rows ${symbol}`, async () => {
    let metadata, source
    if (file.bytes <= SMALL) {
      const bytes = await loadBytes(file)
      metadata = metadataOf(file, bytes)
      source = whole(file, bytes)
    } else {
      metadata = await footer(file)
    }
    let row = 0
    const groups = metadata.row_groups.map((group) => {
      const start = row
      row += Number(group.num_rows)
      return { group, start, end: row }
    }).filter(({ group }) => groupMayHold(group, symbol))
    if (!groups.length) return {}
    source ??= await ranged(file, groups.map(({ group }) => group))
    return decoded(file, metadata, source, { rowStart: groups[0].start, rowEnd: groups.at(-1).end, symbol })
  })
}

// The footer of a file, by one request where the index knows its length.
function footer(file) {
  return once(`${file.path} footer`, async () => {
    const guess = Math.min(file.bytes, file.footer ?? 16_384)
    const bytes = await loadBytes(file, file.bytes - guess, file.bytes)
    const needed = new DataView(bytes).getUint32(bytes.byteLength - TAIL, true) + TAIL
    if (needed <= bytes.byteLength || needed > file.bytes) return metadataOf(file, bytes)
    return metadataOf(file, await loadBytes(file, file.bytes - needed, file.bytes))
  })
}

function metadataOf(file, bytes) {
  try {
    return parquetMetadata(bytes)
  } catch (error) {
    throw new DataError(`${file.path} is damaged: ${error.message}`)
  }
}

function groupMayHold(group, symbol) {
  const statistics = group.columns.find((column) => column.meta_data.path_in_schema[0] === 'symbol')?.meta_data.statistics
  return mayHold(statistics?.min_value ?? statistics?.min, statistics?.max_value ?? statistics?.max, symbol)
}

const whole = (file, bytes) => ({ byteLength: file.bytes, slice: (start, end) => bytes.slice(start, end) })

// The bytes of neighboring row groups by one request, as the file that hyparquet reads.
async function ranged(file, groups) {
  const chunks = groups.flatMap((group) => group.columns.map(({ meta_data: chunk }) => {
    const start = Number(chunk.dictionary_page_offset || chunk.data_page_offset)
    return { start, end: start + Number(chunk.total_compressed_size) }
  }))
  const start = Math.min(...chunks.map((chunk) => chunk.start))
  const bytes = await loadBytes(file, start, Math.max(...chunks.map((chunk) => chunk.end)))
  return { byteLength: file.bytes, slice: (from, to = file.bytes) => bytes.slice(from - start, to - start) }
}

// The columns of a file, or of its rows of one symbol.
async function decoded(file, metadata, source, { rowStart = 0, rowEnd = Number(metadata.num_rows), symbol = null } = {}) {
  const columns = {}
  try {
    await parquetRead({
      file: source,
      metadata,
      rowStart,
      rowEnd,
      // Chunks of a column come in the order of their rows.
      onChunk: ({ columnName, columnData }) => (columns[columnName] ??= []).push(columnData),
    })
  } catch (error) {
    throw new DataError(`${file.path} is damaged: ${error.message}`)
  }
  let [first, end] = [0, rowEnd - rowStart]
  for (const [name, chunks] of Object.entries(columns)) columns[name] = chunks.length === 1 ? chunks[0] : chunks.flatMap((chunk) => Array.from(chunk))
  if (symbol !== null) {
    first = columns.symbol.indexOf(symbol)
    if (first < 0) return {}
    end = columns.symbol.lastIndexOf(symbol) + 1
  }
  for (const [name, values] of Object.entries(columns)) columns[name] = plain(values, first, end, WHOLE.has(name))
  return columns
}

// Part of a column as a plain array: dates as ISO text, unknown as null. Dividing whole numbers rounds to the double of
// the stored decimal.
function plain(values, first, end, isWhole) {
  const found = new Array(end - first)
  for (let row = first; row < end; row++) {
    const value = values[row]
    if (value === undefined || value === null || Number.isNaN(value)) found[row - first] = null
    else if (typeof value === 'bigint') found[row - first] = isWhole ? Number(value) : Number(value) / MILLIONTHS
    else found[row - first] = value instanceof Date ? value.toISOString().slice(0, 10) : value
  }
  return found
}

// Rows of several pieces in the order of their dates; a later piece replaces a date of an earlier one.
function joined(parts) {
  const rows = new Map()
  const names = [...new Set(parts.flatMap(Object.keys))]
  for (const part of parts) part.date?.forEach((date, row) => rows.set(date, [part, row]))
  const order = [...rows].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, place]) => place)
  return Object.fromEntries(names.map((name) => [name, order.map(([part, row]) => part[name]?.[row] ?? null)]))
}
