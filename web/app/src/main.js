// Start: the frame of the page, and a page for each address.
import { h } from './dom.js'
import { keepAtHand, loadIndex, onRepublished, siteIndex, versionNotice } from './data.js'
import { day, moment } from './format.js'
import { problem } from './panel.js'
import { address, parse } from './router.js'
import { searchBox } from './search.js'
import { isDark, onTheme, restoreTheme, toggleTheme } from './theme.js'
import { overviewPage } from './pages/overview.js'
import { screenerPage } from './pages/screener.js'
import { symbolPage } from './pages/symbol.js'
import { dataPage } from './pages/data.js'

const PAGES = {
  overview: { label: 'Overview', draw: overviewPage },
  screener: { label: 'Screener', draw: screenerPage },
  symbol: { draw: symbolPage },
  data: { label: 'Data', draw: dataPage },
}

restoreTheme()
const main = h('main', { id: 'main', tabindex: '-1' })
const notices = h('section', { class: 'notices', 'aria-label': 'Notices' })
const links = Object.entries(PAGES).filter(([, page]) => page.label)
  .map(([name, page]) => [name, h('a', { href: address(name) }, page.label)])
const themeButton = h('button', { type: 'button', class: 'theme', onclick: toggleTheme })
const asOf = h('span', { class: 'as-of' })
let leave = () => {}

function frame() {
  const licenses = document.querySelector('meta[name=licenses]')?.content
  document.getElementById('app').replaceChildren(
    h('a', { class: 'skip', href: '#main', onclick: (event) => { event.preventDefault(); main.focus() } }, 'Skip to the content'),
    h('header', { class: 'top' },
      h('div', { class: 'bar' },
        h('a', { class: 'brand', href: '#/' }, 'Market'), asOf,
        h('nav', { 'aria-label': 'Pages' }, links.map(([, link]) => link)),
        searchBox(), themeButton)),
    notices,
    main,
    h('footer', {},
      h('p', {}, 'For information only, not investment advice. Prices are subject to the license of their provider.'),
      h('p', {}, 'Charts by ', h('a', { href: 'https://www.tradingview.com/', rel: 'noopener noreferrer' }, 'TradingView Lightweight Charts™'),
        ', © TradingView, Inc. ', licenses && location.protocol !== 'file:' && h('a', { href: licenses }, 'Licenses'))))
  nameTheme()
  onTheme(nameTheme)
}

function nameTheme() {
  const next = isDark() ? 'light' : 'dark'
  themeButton.replaceChildren(isDark() ? '☀' : '☾')
  themeButton.setAttribute('aria-label', `Switch to ${next} colors`)
  themeButton.title = `Switch to ${next} colors`
}

function describe() {
  const index = siteIndex()
  asOf.replaceChildren(index.last ? `Close of ${day(index.last)}` : 'No sessions yet')
  asOf.title = `Published ${moment(index.published_at)}`
  const notice = versionNotice()
  notices.replaceChildren(...[
    notice && h('div', { class: 'problem', role: 'alert' }, notice, h('button', { type: 'button', onclick: () => location.reload() }, 'Reload')),
    index.is_demo && h('p', { class: 'note' }, 'Demo: recorded real prices, not today’s.'),
  ].filter(Boolean))
}

function route({ focus = true } = {}) {
  const { page, argument, query } = parse(location.hash)
  const found = Object.hasOwn(PAGES, page) ? PAGES[page] : null
  leave()
  leave = () => {}
  for (const [name, link] of links) link.toggleAttribute('aria-current', name === page)
  for (const [name, link] of links) if (name === page) link.setAttribute('aria-current', 'page')
  const drawn = found ? found.draw({ argument, query }) : notFound()
  leave = drawn.leave ?? leave
  document.title = `${drawn.title} – Market`
  main.replaceChildren(...drawn.content)
  // What is measured: the page with all its parts.
  Promise.all(drawn.content.map((part) => part.ready)).then(() => performance.mark('ready', { detail: location.hash }))
  if (focus) {
    window.scrollTo(0, 0)
    main.focus({ preventScroll: true })
  }
}

function notFound() {
  return { title: 'No such page', content: [h('h1', {}, 'There is no such page'),
    h('p', {}, 'The address names a page that does not exist. ', h('a', { href: '#/' }, 'Go to the overview'))] }
}

async function start() {
  try {
    await loadIndex()
  } catch (error) {
    main.replaceChildren(h('h1', {}, 'Market'), problem(error, start))
    return
  }
  describe()
  route({ focus: false })
  onRepublished(() => { describe(); route() })
  addEventListener('hashchange', () => route())
  addEventListener('load', () => setTimeout(keepAtHand, 300))
  if (document.readyState === 'complete') setTimeout(keepAtHand, 300)
}

frame()
start()
