// A part of a page that loads by itself: if it fails it says why, and the rest of the page goes on.
import { h } from './dom.js'
import { DataError } from './data.js'

export function panel(load, draw, { className = '', label = null } = {}) {
  const root = h('section', { class: `panel ${className}`, 'aria-label': label })
  async function run() {
    root.setAttribute('aria-busy', 'true')
    try {
      const drawn = await draw(await load(), run)
      const parts = [drawn].flat(Infinity).filter(Boolean)
      root.replaceChildren(...parts)
      parts.forEach((part) => part.attached?.())
    } catch (error) {
      root.replaceChildren(problem(error, run))
    }
    root.removeAttribute('aria-busy')
  }
  root.ready = run()
  return root
}

// What is wrong, in a line, with a way to try again.
export function problem(error, retry = null) {
  const known = error instanceof DataError
  if (!known) console.error(error)
  return h('div', { class: 'problem', role: 'alert' },
    h('span', {}, known ? error.message : `This part cannot be shown: ${error.message}`),
    retry && h('button', { type: 'button', onclick: retry }, 'Try again'))
}
