// The published files: fetched once, kept in memory (so that pages go on without a network), checked as they come.

export const KNOWN_VERSION = 1

// A file that cannot be shown; the message names it and says in one line what is wrong.
export class DataError extends Error {}

const memory = new Map() // path and range → promise
const suspects = new Set() // paths of files that could not be shown: the browser's own copy of them is not asked again
let index = null
const changes = new Set()

export const siteIndex = () => index

// Call back when a newer publication has been found while the page was open.
export const onRepublished = (listener) => changes.add(listener)

// Load index.json, the only file that changes in place.
export async function loadIndex() {
  const found = json('index.json', inlined('index') ?? (await fetchBytes('index.json', { cache: 'no-cache' })))
  if (!found?.files || typeof found.files !== 'object') {
    suspects.add('index.json')
    throw new DataError('index.json does not list the files of this site')
  }
  const republished = index !== null && index.published_at !== found.published_at
  index = { sessions: [], ...found }
  if (republished) {
    memory.clear()
    changes.forEach((listener) => listener())
  }
  return index
}

// What is wrong with the index as a whole, or null.
export function versionNotice() {
  if (index.version === KNOWN_VERSION) return null
  return `The data is of version ${index.version}, and this page knows version ${KNOWN_VERSION}. Reload to get the new page; until then some of it may be missing.`
}

export const pieces = (name) => [index?.files?.[name] ?? []].flat()

// A JSON file of the index, by name.
export function loadJson(name) {
  const [file] = pieces(name)
  if (!file?.path) return Promise.reject(new DataError(`index.json lists no file "${name}"`))
  return once(file.path, async () => json(file.path, inlined(file.path) ?? (await fetchBytes(file.path, { size: file.bytes }))))
}

// The bytes of a file from `start` to before `end`, or all of it.
export function loadBytes(file, start = 0, end = file.bytes) {
  const whole = start === 0 && end === file.bytes
  return once(whole ? file.path : `${file.path} ${start}-${end}`, async () => {
    const inside = inlined(file.path)
    if (inside) return base64(file.path, inside).slice(start, end)
    return fetchBytes(file.path, whole ? { size: file.bytes } : { start, end })
  })
}

export const isLoaded = (file) => memory.has(file.path)

// Fetch a small site as a whole while nothing else happens, so that all of it stays at hand without a network.
const SMALL = 2_000_000
export function keepAtHand() {
  const files = Object.values(index?.files ?? {}).flat()
  if (files.reduce((sum, file) => sum + (file.bytes ?? Infinity), 0) > SMALL) return
  for (const [name, listed] of Object.entries(index.files)) {
    for (const file of [listed].flat()) {
      const loading = file.path.endsWith('.json') ? loadJson(name) : loadBytes(file)
      loading.catch(() => {}) // whoever needs the file asks again, and says what is wrong
    }
  }
}

export function once(key, load) {
  if (!memory.has(key)) {
    const promise = load()
    memory.set(key, promise)
    promise.catch(() => { if (memory.get(key) === promise) forget(key.split(' ')[0]) }) // the next try asks again
  }
  return memory.get(key)
}

function forget(path) {
  suspects.add(path)
  for (const key of memory.keys()) if (key.split(' ')[0] === path) memory.delete(key)
}

function inlined(name) {
  return document.getElementById(`data-${name}`)?.textContent ?? null
}

async function fetchBytes(path, { start, end, size, cache } = {}) {
  const headers = end === undefined ? {} : { Range: `bytes=${start}-${end - 1}` }
  let response
  try {
    response = await fetch(path, { headers, cache: suspects.delete(path) ? 'reload' : cache ?? 'default' })
  } catch {
    throw new DataError(
      location.protocol === 'file:'
        ? `${path} cannot be read from a folder; open market.html, or serve the folder with "main.py site --open"`
        : `${path} could not be loaded: no answer from the network`,
    )
  }
  if (!response.ok) {
    // Files are immutable and old ones are removed, so a missing one may mean that a newer publication stands.
    if (response.status === 404 && path !== 'index.json') await loadIndex().catch(() => {})
    throw new DataError(`${path} could not be loaded: ${response.status} ${response.statusText}`.trim())
  }
  let bytes
  try {
    bytes = await response.arrayBuffer()
  } catch {
    throw new DataError(`${path} could not be loaded: the answer broke off`)
  }
  if (end !== undefined && response.status === 200) bytes = bytes.slice(start, end) // a server without ranges
  const expected = end === undefined ? size : end - start
  if (expected !== undefined && bytes.byteLength !== expected) {
    throw new DataError(`${path} is damaged: ${bytes.byteLength} bytes instead of ${expected}`)
  }
  return bytes
}

function json(path, raw) {
  try {
    return JSON.parse(typeof raw === 'string' ? raw : new TextDecoder().decode(raw))
  } catch {
    suspects.add(path)
    throw new DataError(`${path} is damaged: it is not JSON`)
  }
}

function base64(path, text) {
  try {
    const binary = atob(JSON.parse(text))
    return Uint8Array.from(binary, (character) => character.charCodeAt(0)).buffer
  } catch {
    throw new DataError(`${path} is damaged: it is not base64`)
  }
}
