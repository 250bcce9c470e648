// Light or dark: as the system says until the reader chooses.
const KEY = 'theme'
const system = matchMedia('(prefers-color-scheme: dark)')
const listeners = new Set()

export const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark'

export function restoreTheme() {
  const chosen = remembered()
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen
  system.addEventListener('change', announce)
}

export function toggleTheme() {
  const next = isDark() ? 'light' : 'dark'
  document.documentElement.dataset.theme = next
  try {
    localStorage.setItem(KEY, next)
  } catch {
    // Storage may be switched off; the choice then lasts as long as the page.
  }
  announce()
}

function remembered() {
  try {
    return localStorage.getItem(KEY)
  } catch {
    return null
  }
}

const announce = () => listeners.forEach((listener) => listener())

// Call back on every change; the answer ends that.
export function onTheme(listener) {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()
