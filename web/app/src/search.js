// The box that finds a symbol: a combobox over the symbols of the overview.
import { h } from './dom.js'
import { overviewColumns } from './parquet.js'
import { symbolAddress } from './router.js'

const MOST = 8

// An input with suggestions. choose(symbol) is called with what was typed or picked.
export function symbolInput({ label, placeholder, choose, id, clear = false }) {
  const list = h('ul', { class: 'options', role: 'listbox', id: `${id}-options`, 'aria-label': 'Symbols', hidden: true })
  const input = h('input', {
    type: 'search', id, placeholder, 'aria-label': label, role: 'combobox', autocomplete: 'off', spellcheck: 'false',
    'aria-expanded': 'false', 'aria-controls': `${id}-options`, 'aria-autocomplete': 'list', maxlength: '40',
    oninput: suggest, onfocus: () => symbols(), onkeydown: key, onblur: () => setTimeout(close, 150),
  })
  const root = h('div', { class: 'combobox' }, input, list)
  let found = []
  let active = -1

  async function suggest() {
    const typed = input.value.trim()
    const all = typed ? await symbols() : []
    if (input.value.trim() !== typed) return
    found = matches(all, typed)
    active = -1
    list.replaceChildren(...found.map((symbol, at) => h('li', { role: 'option', id: `${id}-${at}`, 'aria-selected': 'false', onpointerdown: (event) => { event.preventDefault(); pick(symbol) } }, symbol)))
    list.hidden = !found.length
    input.setAttribute('aria-expanded', String(found.length > 0))
    input.removeAttribute('aria-activedescendant')
  }

  function key(event) {
    if ((event.key === 'ArrowDown' || event.key === 'ArrowUp') && found.length) {
      event.preventDefault()
      active = (active + (event.key === 'ArrowDown' ? 1 : -1) + found.length) % found.length
      ;[...list.children].forEach((option, at) => option.setAttribute('aria-selected', String(at === active)))
      input.setAttribute('aria-activedescendant', `${id}-${active}`)
    } else if (event.key === 'Enter') {
      event.preventDefault()
      enter()
    } else if (event.key === 'Escape') {
      close()
    }
  }

  async function enter() {
    const typed = input.value.trim()
    if (!typed) return pick('')
    pick(active >= 0 ? found[active] : resolve(await symbols(), typed))
  }

  function pick(symbol) {
    close()
    input.value = clear ? '' : symbol
    choose(symbol)
  }

  function close() {
    list.hidden = true
    found = []
    input.setAttribute('aria-expanded', 'false')
    input.removeAttribute('aria-activedescendant')
  }

  return { root, input }
}

export function searchBox() {
  const { root, input } = symbolInput({
    id: 'search', label: 'Find a symbol', placeholder: 'Symbol  /', clear: true,
    choose: (symbol) => { if (symbol) location.hash = symbolAddress(symbol) },
  })
  addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input, textarea, select')
    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault()
      input.focus()
    }
  })
  root.classList.add('search')
  return root
}

const symbols = () => overviewColumns().then((columns) => columns.symbol ?? [], () => [])

// Those that begin with what was typed, then those that hold it; letter case counts only between equals.
function matches(all, typed) {
  const upper = typed.toUpperCase()
  const begin = []
  const hold = []
  for (const symbol of all) {
    const at = symbol.toUpperCase().indexOf(upper)
    if (at === 0) begin.push(symbol)
    else if (at > 0) hold.push(symbol)
  }
  begin.sort((one, other) => (other === typed) - (one === typed) || one.length - other.length)
  return [...begin, ...hold].slice(0, MOST)
}

// Tickers are case-sensitive (KIMpL), and people are not.
function resolve(all, typed) {
  if (all.includes(typed)) return typed
  return all.find((symbol) => symbol.toUpperCase() === typed.toUpperCase()) ?? typed
}
