// The address after "#": "/symbol/AAPL?range=1y" → { page: 'symbol', argument: 'AAPL', query: URLSearchParams }.

export function parse(hash) {
  const [path, query = ''] = split(hash.replace(/^#/, ''))
  const [page = '', ...rest] = path.replace(/^\/+/, '').split('/')
  return { page: page || 'overview', argument: decoded(rest.join('/')), query: new URLSearchParams(query) }
}

function split(text) {
  const at = text.indexOf('?')
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)]
}

function decoded(text) {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // a stray "%": shown as it is
  }
}

export function address(page, argument = '', query = {}) {
  const entries = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== '')
  const tail = entries.length ? `?${new URLSearchParams(entries)}` : ''
  const path = page === 'overview' ? '/' : `/${page}${argument ? `/${encodeURIComponent(argument)}` : ''}`
  return `#${path}${tail.replaceAll('%2C', ',').replaceAll('%3A', ':')}`
}

export const symbolAddress = (symbol) => address('symbol', symbol)

// Change the address without a new page: Back leaves the page, not each step of a filter.
export function replace(hash) {
  if (location.hash !== hash) history.replaceState(null, '', hash)
}
